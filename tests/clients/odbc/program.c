/* An ODBC program: connect, browse the catalog, insert with parameters, read back, read an error. */
#include <sql.h>
#include <sqlext.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static SQLHDBC connection;

static void fail(SQLSMALLINT kind, SQLHANDLE handle, const char *what) {
    SQLCHAR state[6] = "", text[512] = "";
    SQLINTEGER native;
    SQLSMALLINT length;
    SQLGetDiagRec(kind, handle, 1, state, &native, text, sizeof text, &length);
    fprintf(stderr, "%s: %s %s\n", what, state, text);
    exit(1);
}

static void ok(SQLRETURN result, SQLSMALLINT kind, SQLHANDLE handle, const char *what) {
    if (!SQL_SUCCEEDED(result) && result != SQL_NO_DATA) fail(kind, handle, what);
}

static SQLHSTMT statement(void) {
    SQLHSTMT handle;
    ok(SQLAllocHandle(SQL_HANDLE_STMT, connection, &handle), SQL_HANDLE_DBC, connection, "statement");
    return handle;
}

static void run(const char *sql) {
    SQLHSTMT handle = statement();
    ok(SQLExecDirect(handle, (SQLCHAR *)sql, SQL_NTS), SQL_HANDLE_STMT, handle, sql);
    SQLFreeHandle(SQL_HANDLE_STMT, handle);
}

/* The values of one column, separated by blanks. */
static void values(SQLHSTMT handle, SQLUSMALLINT column, char *out, size_t size) {
    char text[256];
    SQLLEN length;
    out[0] = 0;
    while (SQL_SUCCEEDED(SQLFetch(handle))) {
        SQLGetData(handle, column, SQL_C_CHAR, text, sizeof text, &length);
        if (out[0]) strncat(out, " ", size - strlen(out) - 1);
        strncat(out, length == SQL_NULL_DATA ? "NULL" : text, size - strlen(out) - 1);
    }
    SQLFreeHandle(SQL_HANDLE_STMT, handle);
}

static void expect(const char *what, const char *found, const char *wanted) {
    if (strcmp(found, wanted)) {
        fprintf(stderr, "%s: %s instead of %s\n", what, found, wanted);
        exit(1);
    }
}

int main(int argc, char **argv) {
    SQLHENV environment;
    char text[2048];
    if (argc < 2) return 2;
    SQLAllocHandle(SQL_HANDLE_ENV, SQL_NULL_HANDLE, &environment);
    SQLSetEnvAttr(environment, SQL_ATTR_ODBC_VERSION, (void *)SQL_OV_ODBC3, 0);
    SQLAllocHandle(SQL_HANDLE_DBC, environment, &connection);
    ok(SQLDriverConnect(connection, NULL, (SQLCHAR *)argv[1], SQL_NTS, NULL, 0, NULL, SQL_DRIVER_NOPROMPT), SQL_HANDLE_DBC, connection, "connect");
    SQLSMALLINT size;
    SQLGetInfo(connection, SQL_DBMS_NAME, text, sizeof text, &size);
    expect("product", text, "PostgreSQL");

    run("DROP TABLE IF EXISTS odbc_items");
    run("CREATE TABLE odbc_items (id integer PRIMARY KEY, name varchar(20), price numeric(10,2), at timestamp)");
    SQLHSTMT handle = statement();
    ok(SQLTables(handle, NULL, 0, (SQLCHAR *)"public", SQL_NTS, (SQLCHAR *)"odbc_items", SQL_NTS, (SQLCHAR *)"TABLE", SQL_NTS), SQL_HANDLE_STMT, handle, "SQLTables");
    values(handle, 3, text, sizeof text);
    expect("SQLTables", text, "odbc_items");
    handle = statement();
    ok(SQLColumns(handle, NULL, 0, (SQLCHAR *)"public", SQL_NTS, (SQLCHAR *)"odbc_items", SQL_NTS, NULL, 0), SQL_HANDLE_STMT, handle, "SQLColumns");
    values(handle, 6, text, sizeof text);
    expect("SQLColumns", text, "int4 varchar numeric timestamp");
    handle = statement();
    ok(SQLPrimaryKeys(handle, NULL, 0, (SQLCHAR *)"public", SQL_NTS, (SQLCHAR *)"odbc_items", SQL_NTS), SQL_HANDLE_STMT, handle, "SQLPrimaryKeys");
    values(handle, 4, text, sizeof text);
    expect("SQLPrimaryKeys", text, "id");
    handle = statement();
    ok(SQLStatistics(handle, NULL, 0, (SQLCHAR *)"public", SQL_NTS, (SQLCHAR *)"odbc_items", SQL_NTS, SQL_INDEX_UNIQUE, SQL_QUICK), SQL_HANDLE_STMT, handle, "SQLStatistics");
    SQLFreeHandle(SQL_HANDLE_STMT, handle);

    handle = statement();
    SQLINTEGER id;
    char name[32];
    SQLLEN name_length = SQL_NTS, id_length = 0;
    ok(SQLPrepare(handle, (SQLCHAR *)"INSERT INTO odbc_items (id, name, price) VALUES (?, ?, 1.25)", SQL_NTS), SQL_HANDLE_STMT, handle, "SQLPrepare");
    SQLBindParameter(handle, 1, SQL_PARAM_INPUT, SQL_C_SLONG, SQL_INTEGER, 0, 0, &id, 0, &id_length);
    SQLBindParameter(handle, 2, SQL_PARAM_INPUT, SQL_C_CHAR, SQL_VARCHAR, 20, 0, name, sizeof name, &name_length);
    for (id = 1; id <= 3; id++) {
        snprintf(name, sizeof name, "item %d", id);
        ok(SQLExecute(handle), SQL_HANDLE_STMT, handle, "SQLExecute");
    }
    SQLFreeHandle(SQL_HANDLE_STMT, handle);
    handle = statement();
    ok(SQLExecDirect(handle, (SQLCHAR *)"SELECT name FROM odbc_items ORDER BY id", SQL_NTS), SQL_HANDLE_STMT, handle, "SELECT");
    values(handle, 1, text, sizeof text);
    expect("rows", text, "item 1 item 2 item 3");

    handle = statement();
    if (SQL_SUCCEEDED(SQLExecDirect(handle, (SQLCHAR *)"SELECT * FROM odbc_nothing", SQL_NTS))) return 1;
    SQLCHAR state[6];
    SQLGetDiagRec(SQL_HANDLE_STMT, handle, 1, state, NULL, NULL, 0, NULL);
    expect("state of an unknown table", (char *)state, "42P01");
    SQLFreeHandle(SQL_HANDLE_STMT, handle);
    run("DROP TABLE odbc_items");
    SQLDisconnect(connection);
    puts("ok");
    return 0;
}
