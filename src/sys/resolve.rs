//! Names of hosts, resolved without the C library: a static binary has none of the modules that its resolver loads at run time.
//!
//! In this order: an address is itself; `localhost` and what ends in `.localhost` is the loopback; `/etc/hosts`; the name servers
//! of `/etc/resolv.conf` with its `search` and `ndots`. IPv4 addresses come first. Deliberately absent: a cache (names are asked for
//! at a start and at a reconnect), `/etc/nsswitch.conf`, multicast DNS, and names that are not ASCII.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::random::Random;

const HOSTS: &str = "/etc/hosts";
const CONFIG: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
/// The longest answer that comes in one datagram; a longer one is asked for over TCP.
const DATAGRAM_MAX: usize = 4096;
/// The name servers that are asked, as elsewhere.
const SERVERS_MAX: usize = 3;

/// The addresses of a host.
///
/// # Errors
/// When it has none, or nobody who would know answers; the error says which.
pub async fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Some(addresses) = without_asking(host) {
        return Ok(addresses);
    }
    // A file that cannot be read has nothing to say: most containers have only one of them.
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let listed = listed(&text(HOSTS), host);
    if !listed.is_empty() {
        return Ok(listed);
    }
    Config::parse(&text(CONFIG)).ask(host).await
}

/// The address that `host` is, or the loopback.
fn without_asking(host: &str) -> Option<Vec<IpAddr>> {
    if let Ok(ip) = host.parse() {
        return Some(vec![ip]);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    (name == "localhost" || name.ends_with(".localhost"))
        .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// The addresses of `host` in the text of a hosts file.
fn listed(hosts: &str, host: &str) -> Vec<IpAddr> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut found = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(address);
        }
    }
    ipv4_first(found)
}

fn ipv4_first(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// Whom to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Config {
    servers: Vec<SocketAddr>,
    /// Domains that a short name may lie in.
    search: Vec<String>,
    /// A name with as many dots is tried as it is first.
    ndots: usize,
    /// How long one server may take.
    timeout: Duration,
    /// How often all servers are asked.
    attempts: usize,
}

impl Config {
    /// Reads the text of a `resolv.conf`; what it does not say is as `resolver(5)` has it, and what it says wrong does not count.
    fn parse(text: &str) -> Self {
        let mut config = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    config.servers.extend(server.map(|ip| SocketAddr::new(ip, DNS_PORT)));
                }
                Some("search" | "domain") => config.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| config.option(option)),
                Some(_) | None => {}
            }
        }
        config.servers.truncate(SERVERS_MAX);
        if config.servers.is_empty() {
            config.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
        }
        config
    }

    fn option(&mut self, option: &str) {
        let Some((name, Ok(value))) = option.split_once(':').map(|(name, value)| (name, value.parse::<u8>()))
        else {
            return;
        };
        match name {
            "ndots" => self.ndots = usize::from(value.min(15)),
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = usize::from(value.clamp(1, 5)),
            _ => {}
        }
    }

    /// The full names that `host` may stand for, in the order in which they are tried.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(name) = host.strip_suffix('.') {
            return vec![name.to_owned()];
        }
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{host}.{domain}")).collect();
        let place = if host.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(place, host.to_owned());
        names
    }

    async fn ask(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let refuse = |kind, reason: &str| Err(io::Error::new(kind, reason));
        let mut silent = None;
        for name in self.candidates(host) {
            let Some([ipv4, ipv6]) = Query::both(&name) else {
                return refuse(io::ErrorKind::InvalidInput, "this is no name of a host");
            };
            match tokio::join!(self.answer(&ipv4), self.answer(&ipv6)) {
                (Ok(mut found), Ok(more)) => {
                    found.extend(more);
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => return Ok(found),
                (Err(error), _) | (_, Err(error)) => silent = Some(error),
            }
        }
        match silent {
            Some(error) => {
                let servers: Vec<String> =
                    self.servers.iter().map(|server| server.ip().to_string()).collect();
                refuse(
                    error.kind(),
                    &format!("the name server {} does not tell: {error}", servers.join(", ")),
                )
            }
            None => refuse(io::ErrorKind::NotFound, "there is no host of this name"),
        }
    }

    /// What the first server that knows says; no addresses when there is no such name, or none of this kind.
    async fn answer(&self, query: &Query) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::new(io::ErrorKind::TimedOut, "no answer");
        for _ in 0..self.attempts {
            for server in &self.servers {
                match tokio::time::timeout(self.timeout, query.send(*server)).await {
                    Ok(Ok(addresses)) => return Ok(addresses),
                    Ok(Err(error)) => last = error,
                    Err(_) => {
                        last = io::Error::new(
                            io::ErrorKind::TimedOut,
                            format!("no answer within {:?}", self.timeout),
                        );
                    }
                }
            }
        }
        Err(last)
    }
}

/// A question to a name server.
struct Query {
    id: u16,
    bytes: Vec<u8>,
}

/// What a name server's datagram says.
enum Said {
    Addresses(Vec<IpAddr>),
    /// The answer is longer than a datagram.
    Truncated,
    /// It is the answer to another question: whoever sent it cannot know ours.
    Foreign,
}

impl Query {
    /// The questions for IPv4 and for IPv6 addresses; `None` when `name` can be no name.
    fn both(name: &str) -> Option<[Self; 2]> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !name.bytes().all(plain) {
            return None;
        }
        let random = Random::from_system();
        let query = |kind: TYPE| {
            let id = u16::try_from(random.below(1 << 16)).ok()?;
            let mut packet = Packet::new_query(id);
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
            let name = Name::new(name).ok()?;
            packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
            Some(Self { id, bytes: packet.build_bytes_vec().ok()? })
        };
        Some([query(TYPE::A)?, query(TYPE::AAAA)?])
    }

    async fn send(&self, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        // From here on datagrams of others are dropped by the system.
        socket.connect(server).await?;
        socket.send(&self.bytes).await?;
        let mut datagram = vec![0; DATAGRAM_MAX];
        loop {
            let length = socket.recv(&mut datagram).await?;
            match self.read(datagram.get(..length).unwrap_or_default())? {
                Said::Addresses(addresses) => return Ok(addresses),
                Said::Truncated => return self.send_over_tcp(server).await,
                Said::Foreign => {}
            }
        }
    }

    async fn send_over_tcp(&self, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&self.bytes).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        match self.read(&answer)? {
            Said::Addresses(addresses) => Ok(addresses),
            Said::Truncated | Said::Foreign => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
            }
        }
    }

    fn read(&self, answer: &[u8]) -> io::Result<Said> {
        let invalid = |error: simple_dns::SimpleDnsError| {
            io::Error::new(io::ErrorKind::InvalidData, format!("the answer is damaged: {error}"))
        };
        let asked = Packet::parse(&self.bytes).map_err(invalid)?;
        let packet = Packet::parse(answer).map_err(invalid)?;
        let same_question =
            packet.questions.first().zip(asked.questions.first()).is_some_and(|(told, asked)| {
                told.qtype == asked.qtype
                    && told.qname.to_string().eq_ignore_ascii_case(&asked.qname.to_string())
            });
        if packet.id() != self.id || !packet.has_flags(PacketFlag::RESPONSE) || !same_question {
            return Ok(Said::Foreign);
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Ok(Said::Truncated);
        }
        let code = packet.rcode();
        if code != RCODE::NoError && code != RCODE::NameError {
            return Err(io::Error::other(format!("it answers with the error {code:?}")));
        }
        // The server has followed aliases: every address in its answer belongs to the name.
        let mut addresses = Vec::new();
        for record in &packet.answers {
            if let RData::A(a) = &record.rdata {
                addresses.push(Ipv4Addr::from(a.address).into());
            } else if let RData::AAAA(aaaa) = &record.rdata {
                addresses.push(Ipv6Addr::from(aaaa.address).into());
            }
        }
        Ok(Said::Addresses(addresses))
    }
}

#[cfg(test)]
mod tests {
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};
    use tokio::net::TcpListener;

    use super::*;

    const V4: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
    const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);

    #[test]
    fn addresses_and_the_loopback_need_nobody() {
        let ip = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
        assert_eq!(without_asking("10.0.0.1"), Some(ip("10.0.0.1")));
        assert_eq!(without_asking("::1"), Some(ip("::1")));
        for name in ["localhost", "LocalHost", "localhost.", "db.localhost"] {
            let loopback = without_asking(name).unwrap_or_else(|| panic!("{name}"));
            assert!(loopback.len() == 2 && loopback[0].is_ipv4() && loopback.iter().all(IpAddr::is_loopback));
        }
        assert_eq!(without_asking("localhost.example"), None);
    }

    #[test]
    fn the_hosts_file_is_read_as_everybody_reads_it() {
        let hosts =
            "# a comment\n::7 edge-one\n\n10.1.2.3\tedge-one  Alias # edge-two\nnonsense edge-three\n";
        let of = |name| listed(hosts, name).iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        for (name, addresses) in [
            ("edge-one", "10.1.2.3 ::7"),
            ("EDGE-ONE.", "10.1.2.3 ::7"),
            ("alias", "10.1.2.3"),
            ("edge-two", ""),
            ("edge-three", ""),
            ("10.1.2.3", ""),
        ] {
            assert_eq!(of(name), addresses, "{name}");
        }
    }

    #[test]
    fn resolv_conf_says_whom_to_ask() {
        let config = Config::parse(
            "; old\nnameserver 10.0.0.1\nnameserver nonsense\nnameserver fd00::1\nsearch a.example b.example\n\
             options ndots:2 timeout:99 attempts:0 rotate\n",
        );
        let server = |text: &str| SocketAddr::new(text.parse().unwrap(), 53);
        assert_eq!(
            config,
            Config {
                servers: vec![server("10.0.0.1"), server("fd00::1")],
                search: vec!["a.example".to_owned(), "b.example".to_owned()],
                ndots: 2,
                timeout: Duration::from_secs(30),
                attempts: 1,
            }
        );
        assert_eq!(config.candidates("x"), ["x.a.example", "x.b.example", "x"]);
        assert_eq!(config.candidates("x.y"), ["x.y.a.example", "x.y.b.example", "x.y"]);
        assert_eq!(config.candidates("x.y.z"), ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]);
        assert_eq!(config.candidates("x."), ["x"]);
        assert_eq!(Config::parse("").servers, [server("127.0.0.1")]);
    }

    /// A name server that knows `edge.example` and `alias.example`, cuts the answer for `long.example`, and fails at `broken.example`.
    fn reply(query: &[u8], cuts: bool) -> Vec<u8> {
        let asked = Packet::parse(query).unwrap();
        let question = asked.questions[0].clone();
        let name = question.qname.to_string();
        let mut packet = asked.into_reply();
        let mut add = |name: &Name<'static>, data| {
            packet.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 60, data));
        };
        let edge = Name::new("edge.example").unwrap();
        match (name.as_str(), question.qtype == TYPE::A.into()) {
            ("edge.example", true) => add(&edge, RData::A(A { address: V4.into() })),
            ("edge.example", false) => add(&edge, RData::AAAA(AAAA { address: V6.into() })),
            ("alias.example", true) => {
                add(&Name::new("alias.example").unwrap(), RData::CNAME(CNAME(edge.clone())));
                add(&edge, RData::A(A { address: V4.into() }));
            }
            ("alias.example", false) => {}
            ("long.example", _) if cuts => packet.set_flags(PacketFlag::TRUNCATION),
            ("long.example", true) => add(&edge, RData::A(A { address: V4.into() })),
            ("long.example", false) => {}
            ("broken.example", _) => *packet.rcode_mut() = RCODE::ServerFailure,
            _ => *packet.rcode_mut() = RCODE::NameError,
        }
        packet.build_bytes_vec().unwrap()
    }

    async fn name_server() -> SocketAddr {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        crate::sys::task::spawn(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = udp.recv_from(&mut query).await {
                // Somebody guesses first.
                let mut forged = reply(&query[..length], false);
                forged[0] ^= 1;
                udp.send_to(&forged, from).await.unwrap();
                udp.send_to(&reply(&query[..length], true), from).await.unwrap();
            }
        });
        crate::sys::task::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                let answer = reply(&query, false);
                stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn name_servers_are_asked() {
        let server = name_server().await;
        let config = Config {
            servers: vec![server],
            search: vec!["example".to_owned()],
            timeout: Duration::from_secs(30),
            ..Config::parse("")
        };
        for (name, addresses) in [
            ("edge.example", vec![IpAddr::from(V4), V6.into()]),
            ("edge", vec![V4.into(), V6.into()]),
            ("alias.example", vec![V4.into()]),
            ("long.example", vec![V4.into()]),
        ] {
            assert_eq!(config.ask(name).await.unwrap_or_else(|error| panic!("{error}")), addresses, "{name}");
        }
        for (name, kind, says) in [
            ("nobody.example", io::ErrorKind::NotFound, "no host of this name"),
            ("broken.example", io::ErrorKind::Other, "ServerFailure"),
            ("a b", io::ErrorKind::InvalidInput, "no name of a host"),
            ("m\u{fc}ller.example", io::ErrorKind::InvalidInput, "no name of a host"),
        ] {
            let error = config.ask(name).await.expect_err(name);
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says), "{name}: {error}");
        }
        // The next one is asked after one that says nothing.
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let config = Config {
            servers: vec![silent.local_addr().unwrap(), server],
            timeout: Duration::from_millis(200),
            attempts: 10,
            ..config
        };
        assert_eq!(config.ask("edge.example").await.unwrap(), [IpAddr::from(V4), V6.into()]);
    }
}
