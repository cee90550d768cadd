//! A yardstick: a program with the same sockets and bytes as a broker that parses nothing.
//!
//! It answers the handshake, then counts the bytes that come from publishers and writes as many ready-made frames as
//! would have come of them. One thread per publisher, blocking writes: it shows what this simple way reaches, and a
//! server that gathers or spreads its writes can be faster. It runs as a process of its own, so that its processor time
//! can be told from the generator's; the process ends with its parent, or when its standard input does.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cleanup::Process;
use crate::fault::Fault;
use crate::process;
use crate::shape::{Frames, Shape};

/// Bytes that are read from a publisher at once.
const READ: usize = 128 * 1024;

/// A relay process. It ends when this is dropped.
pub(crate) struct Relay {
    process: Process,
    address: SocketAddr,
}

/// Starts this program as a relay for the frames of one row.
pub(crate) fn start(shape: Shape, size: usize) -> std::result::Result<Relay, Fault> {
    let program = std::env::current_exe()?;
    let (process, output) = Process::spawn(
        Command::new(program)
            .args(["relay", shape.name(), &size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    )?;
    let mut line = String::new();
    if let Some(output) = output {
        BufReader::new(output).read_line(&mut line)?;
    }
    let address = line.trim().parse().map_err(|_| Fault::failed("the relay did not start"))?;
    Ok(Relay { process, address })
}

impl Relay {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cpu_time(&self) -> std::result::Result<Option<Duration>, Fault> {
        Ok(Some(process::cpu_time(self.process.pid())?))
    }
}

/// The relay's main: prints its address and serves until the standard input ends.
pub(crate) fn main(shape: Shape, size: usize) -> Result<()> {
    let address = serve_here(shape, size)?;
    writeln!(std::io::stdout(), "{address}")?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// Serves one run of a row from threads of this process.
pub(crate) fn serve_here(shape: Shape, size: usize) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || accept(&listener, shape, size));
    Ok(address)
}

/// Takes subscribers in order, then publishers: whose handshake has a SUB is a subscriber.
fn accept(listener: &TcpListener, shape: Shape, size: usize) -> Result<()> {
    let mut subscribers = Vec::new();
    let mut publishers = 0;
    while publishers < shape.publishers() {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        if greet(&mut stream)? {
            subscribers.push(stream);
            continue;
        }
        let audience = subscribers.get(shape.audience(publishers)).unwrap_or_default();
        let audience = audience.iter().map(TcpStream::try_clone).collect::<Result<Vec<_>>>()?;
        let frame = Frames::published(shape, publishers, size).length();
        let frames = Frames::delivered(shape, publishers, size);
        let shares = shape.shares();
        std::thread::spawn(move || carry(stream, frame, audience, frames, shares));
        publishers += 1;
    }
    Ok(())
}

/// The server's side of the handshake; returns whether the peer has subscribed.
pub(crate) fn greet(stream: &mut TcpStream) -> Result<bool> {
    stream.write_all(b"INFO {\"server_id\":\"relay\",\"version\":\"0\"}\r\n")?;
    let mut hello = Vec::new();
    let mut byte = [0];
    while !hello.ends_with(b"\r\nPING\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(Error::other("closed in the handshake"));
        }
        hello.extend_from_slice(&byte);
    }
    stream.write_all(b"PONG\r\n")?;
    Ok(memchr::memmem::find(&hello, b"\r\nSUB ").is_some())
}

/// Writes a frame to the audience for every `frame` bytes that come from the publisher.
fn carry(
    mut from: TcpStream,
    frame: usize,
    mut audience: Vec<TcpStream>,
    mut frames: Frames,
    shares: bool,
) -> Result<()> {
    let mut buffer = vec![0; READ];
    let mut bytes = 0;
    let mut next = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        bytes += read;
        let mut due = bytes / frame;
        bytes %= frame;
        if shares {
            for (place, mut share) in in_turn(due, audience.len(), &mut next) {
                let Some(member) = audience.get_mut(place) else { continue };
                while share > 0 {
                    let (ready, count) = frames.take(share);
                    member.write_all(ready)?;
                    share -= count;
                }
            }
            continue;
        }
        while due > 0 {
            let (ready, count) = frames.take(due);
            for member in &mut audience {
                member.write_all(ready)?;
            }
            due -= count;
        }
    }
}

/// How many of `due` frames each of the `members` gets that gets any, when they go to one member after the other, `next`
/// being the first; it is the one whose turn it is afterwards.
fn in_turn(due: usize, members: usize, next: &mut usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let first = *next;
    *next = (first + due) % members;
    (0..members.min(due))
        .map(move |turn| ((first + turn) % members, due / members + usize::from(turn < due % members)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_queue_group_get_frames_in_turn() {
        let mut next = 0;
        for (due, expected, then) in [
            (1, vec![(0, 1)], 1),
            (1, vec![(1, 1)], 2),
            (0, vec![], 2),
            (2, vec![(2, 1), (0, 1)], 1),
            (3, vec![(1, 1), (2, 1), (0, 1)], 1),
            (8, vec![(1, 3), (2, 3), (0, 2)], 0),
        ] {
            assert_eq!(in_turn(due, 3, &mut next).collect::<Vec<_>>(), expected, "{due}");
            assert_eq!(next, then, "{due}");
        }
        // However few frames a read holds, all members get as many.
        let mut totals = [0; 10];
        for due in [1, 2, 1, 7, 13, 1, 1, 2, 2].into_iter().cycle().take(9 * 10) {
            in_turn(due, 10, &mut next).for_each(|(place, share)| totals[place] += share);
        }
        assert_eq!(totals, [30; 10]);
    }
}
