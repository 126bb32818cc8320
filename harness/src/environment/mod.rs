//! Environments: Postgres, Redis, NATS and the server, with a proxy on each link; torn down on drop.
