//! What names mean inside a query: the FROM items and their columns.
//!
//! In: FROM items. Out: columns with their types, where the catalog knows them. Invariant: a name is qualified only when
//! exactly one item has it. Deliberately absent: columns of files and of functions that the catalog does not describe.

use squilla_core::types::SqlType;

use crate::system::classes::system_type;
use crate::system::objects::TableInfo;
use crate::system::relation::Shape;

/// One FROM item.
#[derive(Clone, Debug)]
pub struct Item {
    /// The name that qualifies its columns.
    pub alias: String,
    /// OID of the relation, where it is one.
    pub relation: Option<u32>,
    /// Columns with their types, where known.
    pub columns: Vec<(String, Option<SqlType>)>,
    /// Its columns are printed without the alias.
    pub bare: bool,
}

impl Item {
    /// A relation of the user.
    pub fn of_table(table: &TableInfo, alias: &str) -> Self {
        let columns = table.columns.iter().map(|c| (c.name.clone(), Some(c.ty.clone()))).collect();
        Self { alias: alias.to_owned(), relation: Some(table.oid), columns, bare: false }
    }

    /// A system relation.
    pub fn of_shape(shape: &Shape, alias: &str) -> Self {
        let columns = shape.columns().map(|c| (c.name.to_owned(), system_type(&c).and_then(|t| SqlType::parse(&t.name)))).collect();
        Self { alias: alias.to_owned(), relation: Some(shape.oid), columns, bare: false }
    }

    /// Something with these columns.
    pub fn derived(alias: &str, columns: Vec<(String, Option<SqlType>)>) -> Self {
        Self { alias: alias.to_owned(), relation: None, columns, bare: false }
    }

    fn column(&self, name: &str) -> Option<(usize, &Option<SqlType>)> {
        self.columns.iter().enumerate().find(|(_, (n, _))| n == name).map(|(i, (_, ty))| (i, ty))
    }
}

/// The FROM items of one SELECT.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// In order.
    pub items: Vec<Item>,
}

/// A column that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Qualifier, where one is printed.
    pub alias: Option<String>,
    /// Type.
    pub ty: Option<SqlType>,
    /// OID of its relation and number in it.
    pub source: Option<(u32, i16)>,
}

/// The column of this name in the innermost scope that has it.
pub fn find(scopes: &[Scope], alias: Option<&str>, name: &str) -> Option<Found> {
    for scope in scopes.iter().rev() {
        let mut all = scope.items.iter().filter(|i| alias.is_none_or(|a| a == i.alias)).filter_map(|i| i.column(name).map(|c| (i, c)));
        if let Some((item, (place, ty))) = all.next() {
            let number = i16::try_from(place + 1).ok();
            return Some(Found { alias: (!item.bare).then(|| item.alias.clone()), ty: ty.clone(), source: item.relation.zip(number) });
        }
        // An item whose columns are unknown may have it: nothing is said.
        if alias.is_none() && scope.items.iter().any(|i| i.columns.is_empty()) {
            return None;
        }
    }
    None
}
