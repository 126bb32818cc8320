//! Toxics on a proxy: the API's view of effects.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::{Error, Proxy, admission, connection, probe};
use crate::fault::{Direction, Evidence};
use crate::json::Json;
use crate::toxic::Toxic;
use crate::toxic::clients::Clients;
use crate::toxic::effect::{Common, Datagrams, Effect, Touched};
use crate::toxic::pipeline::Finish;

/// A toxic and the effect that it became.
#[derive(Debug)]
pub(super) struct Entry {
    toxic: Toxic,
    id: u64,
    generation: u64,
    common: Arc<Common>,
    touched: Arc<Touched>,
    /// Asks the port while the toxic turns clients away there.
    probe: Option<DropGuard>,
}

impl Entry {
    fn effect(&self) -> Result<Arc<Effect>, Error> {
        Ok(Arc::new(Effect {
            id: self.id,
            generation: self.generation,
            kind: self.toxic.effect(),
            direction: self.toxic.direction()?,
            toxicity: self.toxic.toxicity,
            clients: self.toxic.clients.clone(),
            common: self.common.clone(),
            touched: self.touched.clone(),
        }))
    }
}

impl Proxy {
    /// Upstream toxics first, then downstream, each in the order of their creation.
    pub fn toxics(&self) -> Vec<Toxic> {
        let mut toxics: Vec<Toxic> =
            self.shared.toxics.lock().iter().map(|entry| entry.toxic.clone()).collect();
        toxics.sort_by_key(|toxic| toxic.direction() != Ok(Direction::Upstream));
        toxics
    }

    /// Each toxic with what it has touched so far, in the order of their creation.
    pub fn toxic_evidence(&self) -> Vec<(Toxic, Evidence)> {
        let toxics = self.shared.toxics.lock();
        toxics.iter().map(|entry| (entry.toxic.clone(), entry.touched.evidence())).collect()
    }

    /// Each toxic with the datagrams that it has touched so far, in the order of their creation.
    pub fn toxic_datagrams(&self) -> Vec<(Toxic, Datagrams)> {
        let toxics = self.shared.toxics.lock();
        toxics.iter().map(|entry| (entry.toxic.clone(), entry.touched.datagrams())).collect()
    }

    pub fn toxic(&self, name: &str) -> Result<Toxic, Error> {
        let toxics = self.shared.toxics.lock();
        let entry = toxics.iter().find(|entry| entry.toxic.name == name).ok_or(Error::ToxicNotFound)?;
        Ok(entry.toxic.clone())
    }

    /// Adds a toxic; it acts on live connections at once. Returns when it does: the port is as the toxic wants it, the
    /// connections that it resets have ended.
    pub async fn add_toxic(&self, toxic: Toxic) -> Result<(), Error> {
        toxic.check_clients()?;
        toxic.check_transport(self.transport())?;
        let acts_on_port = toxic.kind.acts_on_port();
        let resets_existing = toxic.resets_existing();
        let effect = self.put_toxic(toxic)?;
        if acts_on_port {
            self.follow_port(&effect).await;
        }
        if resets_existing {
            let chosen = |number, client| {
                admission::strikes(&effect, client, |effect| {
                    connection::draw(&self.shared, number, effect.id)
                })
            };
            self.shared.end_those(Finish::Reset, Some(effect.touched.clone()), chosen).await;
        }
        Ok(())
    }

    /// Returns when the port is as the toxic wants it, and is asked if that is to turn clients away.
    async fn follow_port(&self, effect: &Effect) {
        self.shared.wait_for_gate().await;
        let turns_away = effect.toxicity > 0.0;
        let probe =
            if turns_away { Some(probe::begin(&self.shared, effect.touched.clone()).await) } else { None };
        let mut toxics = self.shared.toxics.lock();
        // One that was changed or removed meanwhile has its own.
        let same = |entry: &&mut Entry| entry.id == effect.id && entry.generation == effect.generation;
        if let Some(entry) = toxics.iter_mut().find(same) {
            entry.probe = probe;
        }
    }

    fn put_toxic(&self, toxic: Toxic) -> Result<Arc<Effect>, Error> {
        let mut toxics = self.shared.toxics.lock();
        if toxics.iter().any(|entry| entry.toxic.name == toxic.name) {
            return Err(Error::ToxicExists);
        }
        let id = self.shared.new_effect_id();
        let common = Arc::new(Common::new(Instant::now()));
        let entry = Entry { toxic, id, generation: 0, common, touched: Arc::default(), probe: None };
        let effect = entry.effect()?;
        self.shared.put_effect(effect.clone());
        toxics.push(entry);
        Ok(effect)
    }

    /// Changes what is given of a toxic and leaves the rest; changes nothing when a value is wrong. Returns when the port is
    /// as the toxic wants it.
    pub async fn update_toxic(
        &self,
        name: &str,
        attributes: &[(String, Json)],
        toxicity: Option<f32>,
        clients: Option<Clients>,
    ) -> Result<Toxic, Error> {
        let (toxic, effect) = self.change_toxic(name, attributes, toxicity, clients)?;
        if toxic.kind.acts_on_port() {
            self.follow_port(&effect).await;
        }
        Ok(toxic)
    }

    fn change_toxic(
        &self,
        name: &str,
        attributes: &[(String, Json)],
        toxicity: Option<f32>,
        clients: Option<Clients>,
    ) -> Result<(Toxic, Arc<Effect>), Error> {
        let mut toxics = self.shared.toxics.lock();
        let entry = toxics.iter_mut().find(|entry| entry.toxic.name == name).ok_or(Error::ToxicNotFound)?;
        let mut changed = entry.toxic.clone();
        changed.merge(attributes)?;
        changed.toxicity = toxicity.unwrap_or(changed.toxicity);
        changed.clients = clients.unwrap_or(changed.clients);
        changed.check_clients()?;
        entry.toxic = changed;
        entry.generation += 1;
        let effect = entry.effect()?;
        self.shared.put_effect(effect.clone());
        Ok((entry.toxic.clone(), effect))
    }

    /// Takes a toxic off; what it kept back is delivered. The port may open a moment later ([`Proxy::settled`]).
    pub fn remove_toxic(&self, name: &str) -> Result<(), Error> {
        let mut toxics = self.shared.toxics.lock();
        let index = toxics.iter().position(|entry| entry.toxic.name == name).ok_or(Error::ToxicNotFound)?;
        let entry = toxics.remove(index);
        self.shared.remove_effect(entry.id);
        Ok(())
    }

    /// Takes all toxics off; faults that guards hold stay. The port may open a moment later.
    pub fn remove_toxics(&self) {
        for entry in self.shared.toxics.lock().drain(..) {
            self.shared.remove_effect(entry.id);
        }
    }
}
