//! Which workers there are, and which of them take work.
//!
//! In: a list of addresses or DNS names, looked up again and again. Out: the URLs of workers that answer, run our version
//! and are not draining. Invariants: nobody waits for the network to read the list; a worker that was lost by a statement
//! leaves it at once and comes back when it answers again. Deliberately absent: choosing a worker for a task (`place`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::RwLock;
use squilla_core::error::{Error, Kind, Result};
use squilla_engine::run::WorkerRow;
use tokio::sync::watch;
use url::Url;

use crate::able::Tables;
use crate::channels::{Channels, HEARTBEAT, address};
use crate::control::{ControlClient, Hello, Info};

/// Time between questions to each worker.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Questions between lookups of DNS names.
const LOOK_UP_EVERY: u32 = 4;
/// Port of workers when none is named.
pub const PORT: u16 = 50_051;

/// Where workers are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seed {
    /// `host:port`
    Address(String, u16),
    /// `dns://name:port`: every address of the name is a worker.
    Dns(String, u16),
}

fn parse(text: &str) -> Result<Vec<Seed>> {
    let seed = |part: &str| {
        let wrong = || {
            Error::invalid_argument(format!("\"{part}\" is not the address of a worker"))
                .hint("Workers are host:port, separated by commas, or dns://name:port.")
        };
        let (dns, rest) = match part.strip_prefix("dns://") {
            Some(rest) => (true, rest),
            None => (false, part.strip_prefix("http://").or_else(|| part.strip_prefix("https://")).unwrap_or(part)),
        };
        let rest = rest.trim_end_matches('/');
        let url = Url::parse(&format!("http://{rest}")).map_err(|_| wrong())?;
        let host = url.host_str().filter(|_| url.path() == "/").ok_or_else(wrong)?.to_owned();
        // The default port of a URL's scheme is not ours: it is told by the text.
        let port = if rest.ends_with(":80") { 80 } else { url.port().unwrap_or(PORT) };
        Ok(if dns { Seed::Dns(host, port) } else { Seed::Address(host, port) })
    };
    text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(seed).collect()
}

#[derive(Clone, Debug)]
struct Member {
    info: Option<Info>,
    joined_us: i64,
    seen_us: i64,
    answered: Option<Instant>,
    /// Lost by a statement since it answered last.
    lost: bool,
    error: Option<String>,
}

impl Member {
    fn state(&self) -> &'static str {
        match &self.info {
            _ if self.lost || self.answered.is_none_or(|at| at.elapsed() > HEARTBEAT * 2) => "unreachable",
            Some(info) if info.version != crate::VERSION => "version differs",
            Some(info) if info.draining => "draining",
            Some(_) => "ready",
            None => "unreachable",
        }
    }
}

/// A worker that takes work.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where.
    pub url: Url,
    /// What it said.
    pub info: Info,
}

/// The workers.
pub struct Members {
    channels: Arc<Channels>,
    seeds: Vec<Seed>,
    /// The tables that workers should see.
    tables: Option<Tables>,
    known: RwLock<BTreeMap<Url, Member>>,
    /// Counts rounds of questions, for those that wait for news.
    round: watch::Sender<u64>,
}

impl Members {
    /// Looks for workers from now on, until the result is dropped. `list` is `host:port,...` or `dns://name:port`.
    /// `tables` is what they are asked about.
    pub fn watch(list: &str, channels: &Arc<Channels>, tables: Option<Tables>) -> Result<Arc<Self>> {
        let seeds = parse(list)?;
        if seeds.is_empty() {
            return Err(Error::invalid_argument("no worker is named").hint("Workers are host:port, separated by commas, or dns://name:port."));
        }
        let members = Arc::new(Self { channels: Arc::clone(channels), seeds, tables, known: RwLock::default(), round: watch::channel(0).0 });
        let weak = Arc::downgrade(&members);
        channels.on_lost(Arc::new(move |url| {
            if let Some(members) = weak.upgrade() {
                members.lost(url);
            }
        }));
        let weak = Arc::downgrade(&members);
        channels.sockets().spawn(async move {
            let mut rounds = 0u32;
            while let Some(members) = weak.upgrade() {
                if rounds.is_multiple_of(LOOK_UP_EVERY) {
                    members.look_up().await;
                }
                members.ask().await;
                members.round.send_modify(|n| *n += 1);
                drop(members);
                rounds = rounds.wrapping_add(1);
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
        Ok(members)
    }

    async fn look_up(&self) {
        let mut found: HashSet<Url> = HashSet::new();
        let mut failed: HashSet<u16> = HashSet::new();
        for seed in &self.seeds {
            match seed {
                Seed::Address(host, port) => found.extend(Url::parse(&format!("{}://{host}:{port}", self.channels.security().scheme())).ok()),
                Seed::Dns(name, port) => match tokio::net::lookup_host((name.as_str(), *port)).await {
                    Ok(addresses) => {
                        let urls = addresses.map(|a| format!("{}://{a}", self.channels.security().scheme()));
                        found.extend(urls.filter_map(|u| Url::parse(&u).ok()));
                    }
                    Err(error) => {
                        tracing::warn!(name, %error, "the workers' name could not be looked up");
                        failed.insert(*port);
                    }
                },
            }
        }
        let mut known = self.known.write();
        // A name server that is away takes no worker with it.
        known.retain(|url, m| found.contains(url) || (m.state() == "ready" && url.port_or_known_default().is_some_and(|p| failed.contains(&p))));
        for url in found {
            known.entry(url).or_insert_with(|| Member { info: None, joined_us: now_us(), seen_us: 0, answered: None, lost: false, error: None });
        }
        self.channels.retain(|url| known.contains_key(url));
    }

    async fn ask(&self) {
        let urls: Vec<Url> = self.known.read().keys().cloned().collect();
        let one = |url: Url| async move {
            let answer = match self.channels.channel(&url) {
                Ok(channel) => tokio::time::timeout(HEARTBEAT, ControlClient(channel).hello(Hello { tables: self.tables.clone() })).await,
                Err(error) => return self.note(&url, Err(error.message)),
            };
            match answer {
                Ok(Ok(info)) => self.note(&url, Ok(info)),
                Ok(Err(status)) => {
                    let error = self.channels.failure(&url, &status);
                    self.note(&url, Err(error.detail.unwrap_or(error.message).trim_end_matches('.').to_owned()));
                }
                Err(_) => self.note(&url, Err(format!("no answer within {} s", HEARTBEAT.as_secs()))),
            }
        };
        join_all(urls.into_iter().map(one)).await;
    }

    fn note(&self, url: &Url, answer: std::result::Result<Info, String>) {
        let mut known = self.known.write();
        let Some(member) = known.get_mut(url) else { return };
        let before = member.state();
        match answer {
            Ok(info) => {
                let version = &info.version;
                member.error = (version != crate::VERSION).then(|| format!("it runs version {version}, the coordinator {}", crate::VERSION));
                member.info = Some(info);
                (member.answered, member.seen_us, member.lost) = (Some(Instant::now()), now_us(), false);
            }
            Err(error) => {
                member.error = Some(error);
                member.lost = true;
            }
        }
        let after = member.state();
        if before != after {
            let why = member.error.as_deref().unwrap_or_default();
            tracing::info!(worker = address(url), state = after, why, "a worker changed");
        }
    }

    fn lost(&self, url: &Url) {
        if let Some(member) = self.known.write().get_mut(url) {
            member.lost = true;
        }
    }

    /// The workers that take work now.
    pub fn ready(&self) -> Vec<Ready> {
        let known = self.known.read();
        let ready = known.iter().filter(|(_, m)| m.state() == "ready");
        ready.filter_map(|(url, m)| Some(Ready { url: url.clone(), info: m.info.clone()? })).collect()
    }

    /// The workers that take work, after every known one has been asked once more, or when there are some at the latest
    /// after `patience`.
    pub async fn ready_after_news(&self, patience: Duration) -> Vec<Ready> {
        let mut rounds = self.round.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        let start = *rounds.borrow_and_update();
        // A round that is under way may have asked before the loss: two more tell the truth.
        while *rounds.borrow_and_update() < start + 2 || self.ready().is_empty() {
            if tokio::time::timeout_at(deadline, rounds.changed()).await.is_err() {
                break;
            }
        }
        self.ready()
    }

    /// Waits for the first answers, at most this long.
    pub async fn first_answers(&self, patience: Duration) -> Vec<Ready> {
        let mut rounds = self.round.subscribe();
        let deadline = tokio::time::Instant::now() + patience;
        while self.ready().is_empty() && tokio::time::timeout_at(deadline, rounds.changed()).await.is_ok() {}
        self.ready()
    }

    /// The tables of this server.
    pub fn tables(&self) -> Option<&Tables> {
        self.tables.as_ref()
    }

    /// For `squilla.workers`.
    pub fn rows(&self) -> Vec<WorkerRow> {
        let known = self.known.read();
        let row = |(url, m): (&Url, &Member)| {
            let info = m.info.clone().unwrap_or_default();
            let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            WorkerRow {
                address: address(url),
                state: m.state().to_owned(),
                version: info.version,
                labels: info.labels.iter().map(|(k, v)| format!("{k}={v}")).collect(),
                device: info.device,
                cores: int(info.cores),
                memory_limit: int(info.memory_limit),
                memory_used: int(info.memory_used),
                spilled: int(info.spilled),
                statements: int(info.statements),
                models_loaded: int(info.models_loaded),
                joined_us: m.joined_us,
                seen_us: m.seen_us,
                error: m.error.clone().filter(|_| m.state() != "ready"),
            }
        };
        known.iter().map(row).collect()
    }

    /// Why no worker takes work: 57P01, with what each of them said.
    pub fn nobody(&self) -> Error {
        let known = self.known.read();
        let told: Vec<String> =
            known.iter().map(|(url, m)| format!("{} is {}", address(url), m.error.as_deref().unwrap_or_else(|| m.state()))).collect();
        let detail = if told.is_empty() { "No address is known.".to_owned() } else { format!("{}.", told.join("; ")) };
        Error::new(Kind::AdminShutdown, "no worker of the cluster can be reached")
            .detail(detail)
            .hint("Start workers with: squilla worker --listen HOST:PORT. squilla.workers shows their states.")
    }
}

fn now_us() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// Workers as a resolver lists them: a lone one twice, so that no stage is small enough to run in the coordinator.
pub fn listed(ready: &[Ready]) -> Vec<Url> {
    let urls: Vec<Url> = ready.iter().map(|r| r.url.clone()).collect();
    match urls.as_slice() {
        [one] => vec![one.clone(), one.clone()],
        _ => urls,
    }
}

/// Labels as `k=v,k=v`.
pub fn labels(text: &str) -> Result<HashMap<String, String>> {
    text.split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, "1"));
            let plain = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c));
            if plain(name) && plain(value) {
                return Ok((name.to_owned(), value.to_owned()));
            }
            Err(Error::invalid_argument(format!("\"{part}\" is not a label")).hint("Labels are name=value, separated by commas."))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use futures::stream::BoxStream;
    use tonic::Status;

    use super::*;
    use crate::control::{Begin, Control, ControlServer, Finish, News};
    use crate::security::Security;

    /// A worker that says its version and can do nothing.
    struct Says(parking_lot::Mutex<&'static str>);

    impl Control for Says {
        async fn info(&self, _: Hello) -> Info {
            Info { version: (*self.0.lock()).to_owned(), cores: 1, ..Info::default() }
        }
        fn begin(self: &Arc<Self>, _: Begin) -> std::result::Result<BoxStream<'static, std::result::Result<News, Status>>, Status> {
            Err(Status::failed_precondition("it runs another version"))
        }
        fn finish(&self, _: &Finish) -> News {
            News::default()
        }
    }

    async fn says(version: &'static str) -> (Arc<Says>, String) {
        let worker = Arc::new(Says(parking_lot::Mutex::new(version)));
        let incoming = tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap().to_string();
        let served = tonic::transport::Server::builder().add_service(ControlServer(Arc::clone(&worker)));
        tokio::spawn(served.serve_with_incoming(incoming));
        (worker, address)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn workers_of_another_version_get_nothing_until_they_are_replaced() {
        let (_same, first) = says(crate::VERSION).await;
        let (other, second) = says("0.0.1").await;
        let channels = Channels::new(Security::default(), tokio::runtime::Handle::current());
        let members = Members::watch(&format!("{first},{second}"), &channels, None).unwrap();
        members.ready_after_news(Duration::from_secs(5)).await;
        let ready: Vec<String> = members.ready().iter().map(|r| address(&r.url)).collect();
        assert_eq!(ready, [first.as_str()]);
        let row = members.rows().into_iter().find(|r| r.address == second).unwrap();
        assert_eq!(row.state, "version differs");
        assert!(row.error.is_some_and(|e| e.contains("0.0.1") && e.contains(crate::VERSION)));
        // One that was replaced since it was asked refuses, and counts as lost.
        let url: Url = format!("http://{second}").parse().unwrap();
        let begin = Begin { version: crate::VERSION.into(), key: "k".into(), facts: squilla_engine::session::task::Facts::default() };
        let status = ControlClient(channels.channel(&url).unwrap()).begin(begin).await.err().unwrap();
        let error = channels.failure(&url, &status);
        assert!(error.sqlstate() == "SQ004" && error.message.contains(&second), "{error:?}");
        *other.0.lock() = crate::VERSION;
        members.ready_after_news(Duration::from_secs(5)).await;
        assert_eq!(members.ready().len(), 2);
    }

    #[test]
    fn addresses() {
        let seeds = parse("a:1, dns://worker:7 ,10.0.0.1,[::1]:9").unwrap();
        assert_eq!(
            seeds,
            [Seed::Address("a".into(), 1), Seed::Dns("worker".into(), 7), Seed::Address("10.0.0.1".into(), PORT), Seed::Address("[::1]".into(), 9)]
        );
        for wrong in ["a:b", "a/b", "::"] {
            assert_eq!(parse(wrong).unwrap_err().sqlstate(), "22023", "{wrong}");
        }
    }

    #[test]
    fn label_lists() {
        let found = labels("gpu=1, zone=eu-1,fast").unwrap();
        assert_eq!((found["gpu"].as_str(), found["zone"].as_str(), found["fast"].as_str()), ("1", "eu-1", "1"));
        assert!(labels("a b=1").is_err());
    }
}
