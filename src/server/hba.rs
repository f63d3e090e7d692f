//! Who may come from where, and how it proves who it is: rules in the form of PostgreSQL's `pg_hba.conf`.
//!
//! In: the text of the setting `squilla.hba`, one rule a line or between semicolons. Out: the method for a connection.
//! Invariant: the first rule that fits decides; where rules are given and none fits, nobody comes in; `trust` is for this
//! machine only. Deliberately absent: maps of names, groups, and methods other than these four.

use std::net::IpAddr;

use squilla_core::error::{Error, Kind, Result};

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Trust,
    /// By its password.
    Scram,
    /// By a certificate whose common name is the role's.
    Certificate,
    /// It does not come in.
    Reject,
}

/// How a client is connected.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// None for a Unix socket.
    pub address: Option<IpAddr>,
    /// Encrypted.
    pub secure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Addresses {
    All,
    /// This machine, by name: both of its loopback addresses.
    Loopback,
    Net(IpAddr, u8),
}

#[derive(Clone, Debug)]
struct Rule {
    sort: Sort,
    databases: Vec<String>,
    users: Vec<String>,
    addresses: Addresses,
    method: Method,
}

/// The rules; without any, see [`Rules::method`].
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

fn bad(line: &str, why: &str) -> Error {
    Error::new(Kind::ConfigFile, format!("the rule \"{line}\" of squilla.hba is not valid: {why}"))
        .hint("A rule is: local|host|hostssl|hostnossl DATABASE USER [ADDRESS] trust|scram-sha-256|cert|reject.")
}

impl Rules {
    /// Reads rules. F0000 for one that is not valid.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.split(['\n', ';']).map(|l| l.split('#').next().unwrap_or("").trim()).filter(|l| !l.is_empty());
        lines.map(rule).collect::<Result<Vec<_>>>().map(Rules)
    }

    /// The method of a connection: `trust` on this machine while `open`, else passwords, where no rules are given; None
    /// where rules are given and none fits.
    pub fn method(&self, route: Route, database: &str, user: &str, open: bool) -> Option<Method> {
        if self.0.is_empty() {
            return Some(if open && loopback(route.address) { Method::Trust } else { Method::Scram });
        }
        self.0.iter().find(|rule| rule.fits(route, database, user)).map(|rule| rule.method)
    }

    /// Whether somebody from elsewhere can prove who they are without a password in the catalog.
    pub fn take_certificates(&self) -> bool {
        self.0.iter().any(|r| r.method == Method::Certificate)
    }
}

fn rule(line: &str) -> Result<Rule> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (sort, rest) = match words.split_first() {
        Some((&"local", rest)) => (Sort::Local, rest),
        Some((&"host", rest)) => (Sort::Host, rest),
        Some((&"hostssl", rest)) => (Sort::HostSsl, rest),
        Some((&"hostnossl", rest)) => (Sort::HostNoSsl, rest),
        _ => return Err(bad(line, "it does not begin with a kind of connection")),
    };
    let (databases, users, addresses, method) = match (sort, rest) {
        (Sort::Local, [databases, users, method]) => (*databases, *users, Addresses::All, *method),
        (Sort::Local, _) => return Err(bad(line, "a local rule has a database, a user and a method")),
        (_, [databases, users, address, method]) => {
            (*databases, *users, net(address, None).ok_or_else(|| bad(line, "the address is not one"))?, *method)
        }
        (_, [databases, users, address, mask, method]) => {
            (*databases, *users, net(address, Some(mask)).ok_or_else(|| bad(line, "the address or its mask is not one"))?, *method)
        }
        _ => return Err(bad(line, "it has a database, a user, an address and a method")),
    };
    let method = match method {
        "trust" => Method::Trust,
        "scram-sha-256" => Method::Scram,
        "cert" if sort == Sort::HostSsl => Method::Certificate,
        "cert" => return Err(bad(line, "cert is for hostssl")),
        "reject" => Method::Reject,
        _ => return Err(bad(line, "the method is not known")),
    };
    let here = match addresses {
        Addresses::All => sort == Sort::Local,
        Addresses::Loopback => true,
        Addresses::Net(address, bits) => address.is_loopback() && bits >= 8,
    };
    if method == Method::Trust && !here {
        return Err(bad(line, "trust is for loopback addresses and Unix sockets"));
    }
    let list = |words: &str| words.split(',').map(|w| w.trim_matches('"').to_owned()).collect();
    Ok(Rule { sort, databases: list(databases), users: list(users), addresses, method })
}

fn net(address: &str, mask: Option<&str>) -> Option<Addresses> {
    match address {
        "all" => return Some(Addresses::All),
        "localhost" | "samehost" => return Some(Addresses::Loopback),
        _ => {}
    }
    let (ip, bits) = match address.split_once('/') {
        Some((ip, bits)) => (ip.parse::<IpAddr>().ok()?, bits.parse().ok()?),
        None => {
            let ip = address.parse::<IpAddr>().ok()?;
            let all = if ip.is_ipv4() { 32 } else { 128 };
            let bits = match mask.map(str::parse::<IpAddr>).transpose().ok()? {
                Some(IpAddr::V4(mask)) => u32::from(mask).leading_ones() as u8,
                Some(IpAddr::V6(mask)) => u128::from(mask).leading_ones() as u8,
                None => all,
            };
            (ip, bits)
        }
    };
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Addresses::Net(ip, bits))
}

impl Addresses {
    fn hold(self, ip: IpAddr) -> bool {
        match self {
            Addresses::All => true,
            Addresses::Loopback => ip.is_loopback(),
            Addresses::Net(net, bits) => {
                let shift = |width: u32| width.checked_sub(u32::from(bits)).filter(|s| *s < width);
                match (net, ip) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => shift(32).is_none_or(|s| u32::from(a) >> s == u32::from(b) >> s),
                    (IpAddr::V6(a), IpAddr::V6(b)) => shift(128).is_none_or(|s| u128::from(a) >> s == u128::from(b) >> s),
                    _ => false,
                }
            }
        }
    }
}

impl Rule {
    fn fits(&self, route: Route, database: &str, user: &str) -> bool {
        let way = match (self.sort, route.address) {
            (Sort::Local, address) => address.is_none(),
            (_, None) => false,
            (Sort::HostSsl, Some(_)) if !route.secure => false,
            (Sort::HostNoSsl, Some(_)) if route.secure => false,
            (_, Some(ip)) => self.addresses.hold(ip.to_canonical()),
        };
        let named = |list: &[String], name: &str| list.iter().any(|n| n == "all" || n == name);
        way && (named(&self.databases, database) || (database == user && self.databases.iter().any(|d| d == "sameuser"))) && named(&self.users, user)
    }
}

fn loopback(address: Option<IpAddr>) -> bool {
    address.is_none_or(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn from(ip: &str, secure: bool) -> Route {
        Route { address: Some(ip.parse().unwrap()), secure }
    }

    #[test]
    fn the_first_rule_that_fits() {
        let rules = Rules::parse(
            "# people\nlocal all all trust\nhost all ann 127.0.0.1/32 trust ; host all bad all reject\nhostssl squilla all 10.1.0.0/16 cert\nhost all all ::1/128 scram-sha-256",
        )
        .unwrap();
        let method = |route, user| rules.method(route, "squilla", user, false);
        assert_eq!(method(Route { address: None, secure: false }, "x"), Some(Method::Trust));
        assert_eq!(method(from("127.0.0.1", false), "ann"), Some(Method::Trust));
        assert_eq!(method(from("127.0.0.1", false), "bad"), Some(Method::Reject));
        assert_eq!(method(from("127.0.0.1", false), "bob"), None);
        assert_eq!(method(from("10.1.200.3", true), "bob"), Some(Method::Certificate));
        assert_eq!(method(from("10.1.200.3", false), "bob"), None);
        assert_eq!(method(from("10.2.0.1", true), "bob"), None);
        assert_eq!(method(from("::1", false), "bob"), Some(Method::Scram));
    }

    #[test]
    fn without_rules_this_machine_is_trusted_while_it_is_open() {
        let rules = Rules::default();
        assert_eq!(rules.method(from("127.0.0.1", false), "d", "u", true), Some(Method::Trust));
        assert_eq!(rules.method(from("127.0.0.1", false), "d", "u", false), Some(Method::Scram));
        assert_eq!(rules.method(from("10.0.0.1", true), "d", "u", true), Some(Method::Scram));
    }

    #[test]
    fn bad_rules_are_told() {
        for text in [
            "host all all trust",
            "host all all 0.0.0.0/0 trust",
            "host all all 10.0.0.0/40 reject",
            "x",
            "host all all 1.2.3.4 md5",
            "local all all cert",
        ] {
            assert_eq!(Rules::parse(text).unwrap_err().sqlstate(), "F0000", "{text}");
        }
        assert!(Rules::parse("host all all 192.168.0.0 255.255.0.0 reject").is_ok());
    }
}
