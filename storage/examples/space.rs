//! Where dropped bytes go: one database for all logs, or a file for each. See `docs/adr/0001-redb-files.md`.
//!
//! `cargo run --release -p weir-storage --example space -- FOLDER [MEBIBYTES]`

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints, and reads the clock"
)]

use std::env;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

const BLOCKS: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("blocks");
const BLOCK: usize = 65_536 - 256;

fn create(path: &Path) -> Result<Database, Box<dyn Error>> {
    Ok(Database::builder().set_cache_size(16 << 20).create(path)?)
}

fn fill(database: &Database, log: u32, blocks: u64) -> Result<(), Box<dyn Error>> {
    let block = vec![log.to_le_bytes()[0]; BLOCK];
    for first in (0..blocks).step_by(256) {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(BLOCKS)?;
            for seq in first..(first + 256).min(blocks) {
                table.insert((log, seq), block.as_slice())?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

fn drop_log(database: &Database, log: u32) -> Result<(), Box<dyn Error>> {
    loop {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let mut removed = 0;
        {
            let mut table = transaction.open_table(BLOCKS)?;
            for row in table.extract_from_if((log, 0)..=(log, u64::MAX), |_, _| true)?.take(512) {
                row?;
                removed += 1;
            }
        }
        transaction.commit()?;
        if removed == 0 {
            return Ok(());
        }
    }
}

fn mib(path: &Path) -> Result<u64, Box<dyn Error>> {
    use std::os::unix::fs::MetadataExt;
    Ok((path.metadata()?.blocks() * 512) >> 20)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().ok_or("which folder?")?;
    let folder = Path::new(&folder);
    let mebibytes: u64 = arguments.next().map_or(Ok(512), |text| text.parse())?;
    let blocks = (mebibytes << 20) / BLOCK as u64;

    let one = folder.join("one.redb");
    let database = create(&one)?;
    let start = Instant::now();
    fill(&database, 1, blocks)?;
    fill(&database, 2, blocks)?;
    println!(
        "one file: two logs of {mebibytes} MiB written in {:?}; file {} MiB",
        start.elapsed(),
        mib(&one)?
    );
    let start = Instant::now();
    drop_log(&database, 1)?;
    println!("one file: first log dropped in {:?}; file {} MiB", start.elapsed(), mib(&one)?);
    fill(&database, 3, blocks)?;
    println!("one file: a third log of the same size written; file {} MiB", mib(&one)?);
    drop_log(&database, 2)?;
    drop_log(&database, 3)?;
    println!("one file: everything dropped; file {} MiB", mib(&one)?);
    drop(database);
    println!("one file: closed; file {} MiB", mib(&one)?);
    let start = Instant::now();
    let mut database = create(&one)?;
    database.compact()?;
    println!("one file: opened and compacted in {:?}; file {} MiB", start.elapsed(), mib(&one)?);
    drop(database);

    let start = Instant::now();
    let (first, second) = (folder.join("1.redb"), folder.join("2.redb"));
    let (log_1, log_2) = (create(&first)?, create(&second)?);
    println!("two files: made in {:?}, {} MiB each when empty", start.elapsed(), mib(&first)?);
    let start = Instant::now();
    fill(&log_1, 1, blocks)?;
    fill(&log_2, 2, blocks)?;
    println!("two files: written in {:?}; {} MiB", start.elapsed(), mib(&first)? + mib(&second)?);
    let start = Instant::now();
    drop(log_1);
    std::fs::remove_file(&first)?;
    println!("two files: first log dropped in {:?}; {} MiB", start.elapsed(), mib(&second)?);
    let start = Instant::now();
    let transaction = log_2.begin_read()?;
    let _ = transaction.open_table(BLOCKS)?.get((2, 1))?.is_some();
    println!("two files: the other is read in {:?}", start.elapsed());
    let mut costs = Vec::new();
    for count in [1u32, 8, 32] {
        let files: Vec<Database> = (0..count)
            .map(|at| create(&folder.join(format!("many-{count}-{at}.redb"))))
            .collect::<Result<_, _>>()?;
        let start = Instant::now();
        for (log, database) in (0..).zip(&files) {
            fill(database, log, 4)?;
        }
        costs.push((count, start.elapsed()));
    }
    println!("many files: one move into 1, 8, 32 of them: {costs:?}");
    Ok(())
}
