//! Which connections are reset right after they were accepted. Pure: what is drawn is passed in.

use std::net::IpAddr;
use std::sync::Arc;

use crate::toxic::effect::{Effect, Kind};

/// The effect that resets a connection of `client`, if one does; the first one that was added. `draw` gives a number from
/// 0 to 1 that is the connection's own for the effect.
pub(super) fn resets(
    effects: &[Arc<Effect>],
    client: IpAddr,
    draw: impl Fn(&Effect) -> f32,
) -> Option<&Arc<Effect>> {
    effects.iter().find(|effect| match effect.kind {
        Kind::Reset => strikes(effect, client, &draw),
        // Asked last: asking counts.
        Kind::FailFirst { connections } => strikes(effect, client, &draw) && effect.common.fails(connections),
        _ => false,
    })
}

/// True when an effect on whole connections is about this one of `client`; `draw` as above.
pub(super) fn strikes(effect: &Effect, client: IpAddr, draw: impl Fn(&Effect) -> f32) -> bool {
    effect.clients.contain(client) && draw(effect) < effect.toxicity
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::fault::Direction;
    use crate::toxic::clients::Clients;
    use crate::toxic::effect::Common;

    fn effect(id: u64, kind: Kind, toxicity: f32, clients: &[&str]) -> Arc<Effect> {
        Arc::new(Effect {
            id,
            generation: 0,
            kind,
            direction: Direction::Both,
            toxicity,
            clients: Clients::parse(clients.iter().copied()).expect("networks"),
            common: Arc::new(Common::new(Instant::now())),
            touched: Arc::default(),
        })
    }

    fn resetting(effects: &[Arc<Effect>], client: &str, drawn: f32) -> Option<u64> {
        resets(effects, client.parse().expect("an address"), |_| drawn).map(|effect| effect.id)
    }

    #[test]
    fn only_resets_of_the_clients_that_are_meant_strike() {
        let others = effect(1, Kind::Refuse, 1.0, &[]);
        let some = effect(2, Kind::Reset, 1.0, &["127.0.0.2"]);
        let half = effect(3, Kind::Reset, 0.5, &[]);
        let all = [others, some, half];
        assert_eq!(resetting(&all, "127.0.0.2", 0.9), Some(2));
        assert_eq!(resetting(&all, "127.0.0.1", 0.4), Some(3));
        assert_eq!(resetting(&all, "127.0.0.1", 0.5), None);
    }

    #[test]
    fn the_first_connections_fail_and_no_more_and_those_that_are_not_meant_do_not_count() {
        let first = [effect(1, Kind::FailFirst { connections: 2 }, 0.5, &["10.0.0.0/8"])];
        assert_eq!(resetting(&first, "127.0.0.1", 0.0), None);
        assert_eq!(resetting(&first, "10.0.0.1", 0.7), None);
        assert_eq!(resetting(&first, "10.0.0.1", 0.0), Some(1));
        assert_eq!(resetting(&first, "10.0.0.2", 0.0), Some(1));
        assert_eq!(resetting(&first, "10.0.0.1", 0.0), None);
    }
}
