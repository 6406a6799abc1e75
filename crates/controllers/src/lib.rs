//! One room per controller, one runner.
