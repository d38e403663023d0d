# What is done often. Each line works by itself; `just` is a convenience.

# Everything that CI does.
ci:
    bash .ci/run

# The daemon, with config.toml.
run *ARGS:
    cargo run --release -- {{ARGS}}

# The whole suite; clients that are not installed are skipped.
test *ARGS:
    cargo test {{ARGS}}

# Format, then all warnings.
lint:
    cargo fmt
    cargo clippy --all-targets -- -D warnings

# The reference of the crate.
doc:
    cargo doc --no-deps --open
