//! What a connection does between its first byte and its end: both links, polled as one task.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::connection::{Moved, Served};
use super::event::{self, What};
use super::link::{Link, Outcome, Silenced};
use super::side::Side;
use super::state::{Kill, Shared};
use super::wire::Wire;
use crate::fault::Direction;
use crate::protocol::Way;
use crate::protocol::rule::Report;
use crate::seed;
use crate::toxic::effect::Marks;
use crate::toxic::pipeline::{Finish, Pipeline};

impl Served<'_> {
    /// Runs both ways until both have ended, one ends the connection, or an order does.
    pub async fn forward<S: Side>(
        &self,
        [client, server]: &mut [S; 2],
        moved: &mut Moved,
    ) -> Result<Outcome, Kill> {
        let Served { shared, peer, number, signal } = *self;
        let silenced = Silenced::default();
        let marks = Arc::new(Marks::default());
        let wire = shared.protocol.map(|protocol| {
            Wire::new(protocol, seed::derive(shared.seed, &["wire", &shared.name, &number.to_string()]))
        });
        let link = |way| {
            Link::new(shared, way, peer, pipeline(shared, number, way, &marks), &silenced, wire.as_ref())
        };
        let (mut up, mut down) = (link(Direction::Upstream), link(Direction::Downstream));
        let (mut up_done, mut down_done) = (false, false);
        let ended = poll_fn(|context| {
            if let Poll::Ready(kill) = signal.poll_ended(context) {
                return Poll::Ready(Err(kill));
            }
            loop {
                if !up_done && let Poll::Ready(outcome) = up.poll(context, client, server) {
                    if outcome != Outcome::Finished {
                        return Poll::Ready(Ok(outcome));
                    }
                    up_done = true;
                }
                if !down_done && let Poll::Ready(outcome) = down.poll(context, server, client) {
                    if outcome != Outcome::Finished {
                        return Poll::Ready(Ok(outcome));
                    }
                    down_done = true;
                }
                if up_done && down_done {
                    return Poll::Ready(Ok(Outcome::Finished));
                }
                say_done(shared, number, &marks, wire.as_ref());
                let Some(wire) = &wire else { return Poll::Pending };
                match wire.ending() {
                    Some(Finish::Reset) => {
                        return Poll::Ready(Err(Kill { finish: Finish::Reset, touched: None }));
                    }
                    Some(Finish::Close) if down_done => return Poll::Ready(Ok(Outcome::End(Finish::Close))),
                    _ => {}
                }
                // A message from the server can have made something for the way up, which was looked at before.
                if up_done || !wire.waits(Way::Upstream) {
                    return Poll::Pending;
                }
            }
        })
        .await;
        say_done(shared, number, &marks, wire.as_ref());
        *moved = Moved { upstream: up.bytes(), downstream: down.bytes() };
        ended
    }
}

/// What effects and rules did to the connection since the last call.
fn say_done(shared: &Shared, number: u64, marks: &Marks, wire: Option<&Wire>) {
    for (fault, kind) in marks.fresh() {
        shared.say(Some(number), || What::Struck { fault, kind });
    }
    for Report { rule, way, did } in wire.map(Wire::reports).unwrap_or_default() {
        let did = event::did(did);
        shared.say(Some(number), || What::Message { fault: rule, direction: way.into(), did });
    }
}

fn pipeline(shared: &Shared, number: u64, way: Direction, marks: &Arc<Marks>) -> Pipeline {
    let name = if way == Direction::Upstream { "upstream" } else { "downstream" };
    let rng = seed::stream(shared.seed, &["proxy", &shared.name, &number.to_string(), name]);
    Pipeline::new(way, rng, marks.clone())
}
