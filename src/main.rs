//! The command `weir`.

fn main() -> std::process::ExitCode {
    weir::cli::main()
}
