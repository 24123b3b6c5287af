//! What the tests, examples and benches of sala-kernels share.
