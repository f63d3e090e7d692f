import java.math.BigDecimal;
import java.sql.*;
import java.util.*;

/** A JDBC program: metadata, prepared statements, batches, a cursor by fetch size, an error with its SQLSTATE. */
public class Program {
    static void check(boolean ok, String what) {
        if (!ok) throw new AssertionError(what);
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        while (rows.next()) values.add(rows.getString(name));
        return values;
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        if (System.getenv("PGPASSWORD") != null) properties.setProperty("password", System.getenv("PGPASSWORD"));
        try (Connection connection = DriverManager.getConnection(url, properties); Statement statement = connection.createStatement()) {
            statement.execute("DROP TABLE IF EXISTS jdbc_lines");
            statement.execute("DROP TABLE IF EXISTS jdbc_items");
            statement.execute("CREATE TABLE jdbc_items (id integer PRIMARY KEY, name varchar(20) NOT NULL, price numeric(10,2) DEFAULT 1.00)");
            statement.execute("CREATE TABLE jdbc_lines (item integer REFERENCES jdbc_items(id), quantity integer)");

            DatabaseMetaData meta = connection.getMetaData();
            check(column(meta.getTables(null, "public", "jdbc%", new String[] {"TABLE"}), "TABLE_NAME").equals(List.of("jdbc_items", "jdbc_lines")), "tables");
            check(column(meta.getColumns(null, "public", "jdbc_items", "%"), "TYPE_NAME").equals(List.of("int4", "varchar", "numeric")), "types");
            check(column(meta.getPrimaryKeys(null, "public", "jdbc_items"), "COLUMN_NAME").equals(List.of("id")), "primary key");
            check(column(meta.getImportedKeys(null, "public", "jdbc_lines"), "PKTABLE_NAME").equals(List.of("jdbc_items")), "foreign key");
            check(column(meta.getIndexInfo(null, "public", "jdbc_items", true, true), "COLUMN_NAME").equals(List.of("id")), "index");
            check(column(meta.getTypeInfo(), "TYPE_NAME").contains("timestamptz"), "type info");
            check(column(meta.getFunctions(null, "pg_catalog", "upper"), "FUNCTION_NAME").contains("upper"), "functions");

            connection.setAutoCommit(false);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO jdbc_items (id, name, price) VALUES (?, ?, ?)")) {
                for (int i = 1; i <= 300; i++) {
                    insert.setInt(1, i);
                    insert.setString(2, "item " + i);
                    insert.setBigDecimal(3, BigDecimal.valueOf(i, 2));
                    insert.addBatch();
                }
                check(insert.executeBatch().length == 300, "batch");
            }
            connection.commit();
            int seen = 0;
            try (PreparedStatement select = connection.prepareStatement("SELECT id, name, price FROM jdbc_items WHERE id > ? ORDER BY id")) {
                select.setFetchSize(50);
                select.setInt(1, 100);
                try (ResultSet rows = select.executeQuery()) {
                    check(rows.getMetaData().getTableName(1).equals("jdbc_items"), "table of a column");
                    while (rows.next()) {
                        seen++;
                        check(rows.getBigDecimal(3).equals(BigDecimal.valueOf(rows.getInt(1), 2)), "price");
                    }
                }
            }
            check(seen == 200, "rows: " + seen);
            connection.commit();
            connection.setAutoCommit(true);
            try {
                statement.execute("INSERT INTO jdbc_items (id, name) VALUES (1, 'twice')");
                check(false, "a key twice");
            } catch (SQLException e) {
                check(e.getSQLState().equals("23505"), e.getSQLState());
            }
            check(statement.executeUpdate("UPDATE jdbc_items SET price = price + 1 WHERE id <= 10") == 10, "update");
            check(statement.executeUpdate("DELETE FROM jdbc_items WHERE id > 290") == 10, "delete");
            statement.execute("DROP TABLE jdbc_lines");
            statement.execute("DROP TABLE jdbc_items");
        }
        System.out.println("ok");
    }
}
