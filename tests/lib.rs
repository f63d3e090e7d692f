//! Empty: the package holds the one integration-test binary, `main.rs`.
