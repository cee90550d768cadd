//! The broker inside another program: a part of the program publishes and subscribes over an in-process pipe.
//!
//! `cargo run --example embed` opens no port at all. `cargo run --example embed -- 4222` also listens on the loopback and
//! serves until Ctrl-C, so that `nats sub '>'` may look on.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use weir::client::{Client, Options, Pipe};
use weir::server::{Address, Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = std::env::args().nth(1).map(|port| port.parse()).transpose()?.map(Address::loopback);
    let server = Server::start(Config { listen, ..Config::default() }).await?;

    let in_process = server.in_process();
    let client = Client::over(Pipe::new(move || in_process.connect()), Options::named("embed")).await?;
    let mut greetings = client.subscribe("greet.*")?;
    client.publish("greet.world", None, "hello".into()).await?;
    let message =
        tokio::time::timeout(Duration::from_secs(5), greetings.next()).await?.ok_or("the server has gone")?;
    println!("{}: {}", message.subject, String::from_utf8_lossy(&message.payload));

    if let Some(url) = server.client_url() {
        println!("listening on {url}; Ctrl-C stops");
        tokio::signal::ctrl_c().await?;
    }
    client.drain().await?;
    server.shutdown().await?;
    Ok(())
}
