//! What the yardsticks of `harness bench graphql` share: arguments, connections, the input of an order and the
//! statement that places it, and a server that ends on SIGTERM.

pub mod order;
pub mod pool;
pub mod serve;
