//! Toxics: what the Toxiproxy API can put on a link.
