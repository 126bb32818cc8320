//! What the server promises over HTTP, without a database: one binary, a file per area.

mod configuration;
mod documented;
mod drain;
mod health;
mod http;
mod image;
mod logs;
mod metrics;
mod notifications;
mod process;
mod refusals;
mod support;
mod webhooks;
