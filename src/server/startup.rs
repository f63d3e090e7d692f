//! The beginning of a connection: encryption, protocol version, parameters, password.
//!
//! In: the first bytes of a client. Out: a cancel request, or a login whose password was right. Invariant: nothing of a
//! client is trusted or kept before it has proved who it is; a start-up packet holds at most 10,000 bytes; bytes sent in
//! clear behind an SSLRequest never count as sent inside TLS. Deliberately absent: sessions (connection), roles (engine).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use bytes::{Buf, Bytes, BytesMut};
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramSecret, ScramServerAuth};
use pgwire::error::PgWireError;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::{Authentication, NegotiateProtocolVersion};
use squilla_core::error::{Error, Kind, Result};

use crate::decode::utf8;
use crate::tls::{Tls, common_name};
use crate::wire::{Broken, Stream, Wire};

const PACKET_MAX: usize = 10_000;
const PASSWORD_MAX: usize = 8_192;
const NAME_MAX: usize = 63;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Who wants in, and how.
#[derive(Debug, Default)]
pub struct Login {
    /// Role.
    pub user: String,
    /// Database; the role's name unless given.
    pub database: String,
    /// Settings, in the order given: `options` taken apart first, then the others.
    pub settings: Vec<(String, String)>,
    /// Protocol options that are not known here.
    unknown: Vec<String>,
    minor: u16,
}

/// What the first real packet asks for.
#[derive(Debug)]
pub enum Request {
    /// Stop what another connection does.
    Cancel {
        /// Its process id.
        pid: i32,
        /// Its secret.
        secret: i32,
    },
    /// Open a session.
    Login(Login),
}

/// A connection after negotiation.
pub struct Opened {
    /// The socket, encrypted or not.
    pub wire: Wire,
    /// Whether it is encrypted.
    pub secure: bool,
    /// Common name of the certificate that the client showed, which comes from the authority of clients.
    pub certificate: Option<String>,
}

fn violation(message: impl Into<String>) -> Broken {
    Broken::Fatal(Error::new(Kind::ProtocolViolation, message))
}

/// Settles encryption and reads the first packet. With an error comes the wire it can be told on.
pub async fn negotiate(
    stream: Box<dyn Stream>,
    first_byte: Option<u8>,
    tls: Option<&Tls>,
    message_max: usize,
) -> (Option<Opened>, Result<Request, Broken>) {
    let mut opened = Opened { wire: Wire::new(stream, BytesMut::new(), message_max), secure: false, certificate: None };
    if first_byte == Some(0x16) && tls.is_some() {
        // A TLS handshake without an SSLRequest in front: clients of PostgreSQL 17 may do that.
        opened = match encrypt(opened.wire, tls, message_max, true).await {
            Ok(opened) => opened,
            Err(e) => return (None, Err(e)),
        };
    }
    let (mut ssl_done, mut gss_done) = (opened.secure, opened.secure);
    loop {
        let (code, body) = match packet(&mut opened.wire).await {
            Ok(packet) => packet,
            Err(e) => return (Some(opened), Err(e)),
        };
        match code {
            SSL if !ssl_done => {
                ssl_done = true;
                if tls.is_none() {
                    if let Err(e) = opened.wire.write_now(b"N").await {
                        return (None, Err(e.into()));
                    }
                    continue;
                }
                if opened.wire.has_input() {
                    return (Some(opened), Err(violation("received unencrypted data after SSL request")));
                }
                if let Err(e) = opened.wire.write_now(b"S").await {
                    return (None, Err(e.into()));
                }
                opened = match encrypt(opened.wire, tls, message_max, false).await {
                    Ok(opened) => opened,
                    Err(e) => return (None, Err(e)),
                };
                gss_done = true;
            }
            GSS if !gss_done => {
                gss_done = true;
                if let Err(e) = opened.wire.write_now(b"N").await {
                    return (None, Err(e.into()));
                }
            }
            CANCEL => {
                let request = match body[..] {
                    [a, b, c, d, e, f, g, h] => {
                        Ok(Request::Cancel { pid: i32::from_be_bytes([a, b, c, d]), secret: i32::from_be_bytes([e, f, g, h]) })
                    }
                    // A key of the wrong size is answered like a wrong key: with silence.
                    _ => Err(Broken::Gone),
                };
                return (Some(opened), request);
            }
            version => {
                let login = login(version, body);
                return (Some(opened), login.map(Request::Login));
            }
        }
    }
}

async fn encrypt(wire: Wire, tls: Option<&Tls>, message_max: usize, direct: bool) -> Result<Opened, Broken> {
    let tls = tls.ok_or(Broken::Gone)?;
    let stream = tls.acceptor.accept(wire.into_stream()).await?;
    if direct && stream.get_ref().1.alpn_protocol() != Some(b"postgresql") {
        return Err(Broken::Gone);
    }
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(|c| common_name(c));
    Ok(Opened { wire: Wire::new(Box::new(stream), BytesMut::new(), message_max), secure: true, certificate })
}

/// Length, code and the rest of an untyped packet.
async fn packet(wire: &mut Wire) -> Result<(u32, Bytes), Broken> {
    let length = wire.exact(4).await?.get_u32() as usize;
    if !(8..=PACKET_MAX).contains(&length) {
        return Err(violation("invalid length of startup packet"));
    }
    let mut body = wire.exact(length - 4).await?;
    Ok((body.get_u32(), body))
}

fn login(version: u32, body: Bytes) -> Result<Login, Broken> {
    let (major, minor) = (version >> 16, (version & 0xffff) as u16);
    if major != 3 {
        return Err(Broken::Fatal(Error::unsupported(format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"))));
    }
    let mut login = Login { minor, ..Login::default() };
    let mut options = Vec::new();
    let text = body.strip_suffix(b"\0").ok_or_else(|| violation("invalid startup packet layout: expected terminator as last byte"))?;
    let mut parts = text.split(|b| *b == 0);
    // `a\0b\0` splits into a, b and an empty rest: the packet ends with an empty name, which only the end may be.
    loop {
        let name = parts.next().ok_or_else(|| violation("invalid startup packet layout: expected terminator as last byte"))?;
        if name.is_empty() {
            break;
        }
        let value = parts.next().ok_or_else(|| violation("invalid startup packet layout: expected terminator as last byte"))?;
        let name = utf8(name).map_err(Broken::Fatal)?.to_owned();
        let value = utf8(value).map_err(Broken::Fatal)?.to_owned();
        match name.as_str() {
            "user" => login.user = cut(value),
            "database" => login.database = cut(value),
            "options" => options = command_line(&value)?,
            "replication" if !matches!(value.as_str(), "false" | "off" | "no" | "0") => {
                return Err(Broken::Fatal(Error::unsupported("replication connections are not supported")));
            }
            "replication" => {}
            _ if name.starts_with("_pq_.") => login.unknown.push(name),
            _ => login.settings.push((name, value)),
        }
    }
    if parts.next().is_some() {
        return Err(violation("invalid startup packet layout: expected terminator as last byte"));
    }
    if login.user.is_empty() {
        return Err(Broken::Fatal(Error::new(Kind::InvalidAuthorization, "no PostgreSQL user name specified in startup packet")));
    }
    if login.database.is_empty() {
        login.database.clone_from(&login.user);
    }
    options.append(&mut login.settings);
    login.settings = options;
    Ok(login)
}

/// Names longer than a catalog can hold are cut, as everywhere in PostgreSQL.
fn cut(mut name: String) -> String {
    if name.len() > NAME_MAX {
        let end = (0..=NAME_MAX).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

/// `-c name=value --name=value`, blanks and backslashes escaped by backslashes.
fn command_line(text: &str) -> Result<Vec<(String, String)>, Broken> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    let invalid = |word: &str| Broken::Fatal(Error::new(Kind::InvalidArgument, format!("invalid command-line argument for server process: {word}")));
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next().ok_or_else(|| invalid(&word))?
        } else if let Some(rest) = word.strip_prefix("--") {
            // In this form hyphens stand for underscores in the name.
            let (name, value) = rest.split_once('=').ok_or_else(|| invalid(&word))?;
            format!("{}={value}", name.replace('-', "_"))
        } else {
            word.strip_prefix("-c").ok_or_else(|| invalid(&word))?.to_owned()
        };
        let (name, value) = assignment.split_once('=').ok_or_else(|| invalid(&assignment))?;
        settings.push((name.to_owned(), value.to_owned()));
    }
    Ok(settings)
}

/// Tells a client that wants more than protocol 3.0 what it gets.
pub fn answer_version(wire: &mut Wire, login: &Login) {
    if login.minor > 0 || !login.unknown.is_empty() {
        wire.put(PgWireBackendMessage::NegotiateProtocolVersion(NegotiateProtocolVersion::new(0, login.unknown.clone())));
    }
}

/// A verifier as PostgreSQL stores it: `SCRAM-SHA-256$4096:salt$stored:server`.
fn secret(verifier: &str) -> Option<ScramSecret> {
    use base64::Engine as _;
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).ok();
    let rest = verifier.strip_prefix("SCRAM-SHA-256$")?;
    let (head, keys) = rest.split_once('$')?;
    let (iterations, salt) = head.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    Some(ScramSecret::Verifier {
        salt: decode(salt)?,
        iterations: iterations.parse().ok()?,
        stored_key: decode(stored)?,
        server_key: decode(server)?,
    })
}

/// The secret of a role without password: nothing proves it, and its salt is the same at every attempt.
fn nobody(user: &str) -> ScramSecret {
    static KEYS: OnceLock<[RandomState; 2]> = OnceLock::new();
    let keys = KEYS.get_or_init(|| [RandomState::new(), RandomState::new()]);
    let salt = keys.iter().flat_map(|k| k.hash_one(user).to_le_bytes()).collect();
    let random = || rand::random::<[u8; 32]>().to_vec();
    ScramSecret::Verifier { salt, iterations: SCRAM_ITERATIONS, stored_key: random(), server_key: random() }
}

/// Proves the client's password against a stored verifier.
///
/// None stands for a role that does not exist or has no password: the exchange looks the same and fails at its end.
pub async fn scram(wire: &mut Wire, tls: Option<&Tls>, user: &str, verifier: Option<&str>) -> Result<(), Broken> {
    let refused = || Broken::Fatal(Error::new(Kind::InvalidPassword, format!("password authentication failed for user \"{user}\"")));
    let malformed = |_: PgWireError| violation("malformed SCRAM message");
    let plain = ScramServerAuth::new();
    let server = tls.map_or(&plain, |t| &t.scram);
    let mut mechanisms = vec!["SCRAM-SHA-256".to_owned()];
    if server.supports_channel_binding() {
        mechanisms.insert(0, "SCRAM-SHA-256-PLUS".to_owned());
    }
    wire.put(PgWireBackendMessage::Authentication(Authentication::SASL(mechanisms.clone())));
    wire.flush().await?;

    let first = wire.password(PASSWORD_MAX).await?;
    let end = first.iter().position(|b| *b == 0).ok_or_else(|| violation("invalid SASL message"))?;
    let mechanism = first.slice(..end);
    if !mechanisms.iter().any(|m| m.as_bytes() == mechanism) {
        return Err(violation("client selected an invalid SASL authentication mechanism"));
    }
    let mut rest = first.slice(end + 1..);
    if rest.len() < 4 || rest.get_i32() != rest.len() as i32 {
        return Err(violation("invalid SASL message"));
    }
    let bound = rest.starts_with(b"p=");
    if bound != mechanism.ends_with(b"-PLUS") {
        return Err(violation("malformed SCRAM message"));
    }
    let secret = verifier.and_then(secret).unwrap_or_else(|| nobody(user));
    let (answer, waiting) = server.on_client_first_message_with_secret(&rest, secret).map_err(malformed)?;
    wire.put(PgWireBackendMessage::Authentication(Authentication::SASLContinue(answer.into())));
    wire.flush().await?;

    let last = wire.password(PASSWORD_MAX).await?;
    let answer = waiting.on_client_final_message(&last).map_err(|e| match e {
        PgWireError::InvalidPassword(_) => refused(),
        other => malformed(other),
    })?;
    wire.put(PgWireBackendMessage::Authentication(Authentication::SASLFinal(answer.into())));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(body: &[u8]) -> Result<Login, Broken> {
        login(3 << 16, Bytes::copy_from_slice(body))
    }

    #[test]
    fn parameters_are_read_in_order() {
        let l = read(b"user\0ann\0options\0-c a.b=1 --date-style=ISO\\ x\0application_name\0\0TimeZone\0UTC\0\0").unwrap();
        assert_eq!((l.user.as_str(), l.database.as_str()), ("ann", "ann"));
        let settings: Vec<(&str, &str)> = l.settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(settings, [("a.b", "1"), ("date_style", "ISO x"), ("application_name", ""), ("TimeZone", "UTC")]);
        assert_eq!(read(format!("user\0{}\0\0", "é".repeat(50)).as_bytes()).unwrap().user.len(), 62);
    }

    #[test]
    fn broken_packets_are_refused() {
        for body in [
            &b""[..],
            b"\0",
            b"user",
            b"user\0ann",
            b"user\0ann\0",
            b"user\0\0\0",
            b"database\0x\0\0",
            b"\0\0\0\0",
            b"user\0\xff\0\0",
            b"user\0a\0options\0-x\0\0",
        ] {
            assert!(read(body).is_err(), "{body:?}");
        }
        assert!(login(2 << 16, Bytes::new()).is_err());
    }

    #[test]
    fn verifiers_are_taken_apart() {
        assert!(secret("SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy").is_some());
        assert!(secret("md5abc").is_none() && secret("SCRAM-SHA-256$x").is_none());
    }
}
