//! TCP proxies that forward until told otherwise.
