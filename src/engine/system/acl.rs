//! Privileges as PostgreSQL writes them: `{owner=arwdDxt/owner,reader=r/owner}`.
//!
//! In: what roles were granted. Out: the items of `relacl`, `nspacl` and `datacl`, and the defaults of `acldefault`.
//! Invariant: an object without grants has no list, as in PostgreSQL. Deliberately absent: grantors other than the owner.

use crate::catalog::data::CatalogData;
use crate::catalog::roles::{EVERYBODY, Object};

/// The letter of a privilege.
fn letter(privilege: &str) -> char {
    match privilege {
        "SELECT" => 'r',
        "INSERT" => 'a',
        "UPDATE" => 'w',
        "DELETE" => 'd',
        "TRUNCATE" => 'D',
        "REFERENCES" => 'x',
        "TRIGGER" => 't',
        "EXECUTE" => 'X',
        "USAGE" => 'U',
        "CREATE" => 'C',
        "CONNECT" => 'c',
        _ => 'T',
    }
}

/// The order in which PostgreSQL writes the letters.
const ORDER: &str = "arwdDxtXUCTc";

fn item(role: &str, privileges: impl Iterator<Item = (String, bool)>, owner: &str) -> String {
    let mut letters: Vec<(char, bool)> = privileges.map(|(p, grantable)| (letter(&p), grantable)).collect();
    letters.sort_by_key(|(l, _)| ORDER.find(*l));
    let written: String = letters.into_iter().map(|(l, grantable)| if grantable { format!("{l}*") } else { l.to_string() }).collect();
    let role = if role == EVERYBODY { "" } else { role };
    format!("{}={written}/{}", quoted(role), quoted(owner))
}

/// A name as ACL items have it: in quotes where it is not plain.
fn quoted(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// The items of an object; None where nothing but the owner's own and the built-in privileges are held.
pub fn items(data: &CatalogData, object: &Object, owner: &str) -> Option<Vec<String>> {
    let grants = data.grants_on(object);
    // Schemas tell what everybody may do in `public`.
    let untold = if matches!(object, Object::Schema(_)) { Vec::new() } else { CatalogData::default().grants_on(object) };
    if grants == untold {
        return None;
    }
    let all = object.privileges().iter().map(|p| ((*p).to_owned(), false));
    let mut items = vec![item(owner, all, owner)];
    let others = grants.into_iter().filter(|(role, _)| role != owner);
    items.extend(others.map(|(role, held)| item(&role, held.into_iter(), owner)));
    Some(items)
}

/// `acldefault(kind, owner)`: what an object without a list has.
pub fn defaults(kind: &str, owner: &str) -> Vec<String> {
    let owner = quoted(owner);
    let (own, public) = match kind {
        "r" => ("arwdDxt", ""),
        "s" => ("rwU", ""),
        "f" => ("X", "X"),
        "n" => ("UC", ""),
        "d" => ("CTc", "Tc"),
        "l" | "T" => ("U", "U"),
        "t" => ("C", ""),
        "F" | "S" => ("U", ""),
        "L" => ("rw", ""),
        _ => return Vec::new(),
    };
    let everybody = (!public.is_empty()).then(|| format!("={public}/{owner}"));
    everybody.into_iter().chain([format!("{owner}={own}/{owner}")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_written_as_postgresql_does() {
        let held = [("SELECT".to_owned(), true), ("INSERT".to_owned(), false)];
        assert_eq!(item("ann", held.into_iter(), "squilla"), "ann=ar*/squilla");
        assert_eq!(item(EVERYBODY, [("USAGE".to_owned(), false)].into_iter(), "a b"), "=U/\"a b\"");
        assert_eq!(defaults("f", "bob"), ["=X/bob", "bob=X/bob"]);
    }
}
