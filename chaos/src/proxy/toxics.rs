//! Toxics on a proxy: the API's view of effects.

use std::sync::Arc;

use super::{Error, Proxy};
use crate::fault::{Direction, Evidence};
use crate::json::Json;
use crate::toxic::Toxic;
use crate::toxic::effect::{Effect, Touched};

/// A toxic and the effect that it became.
#[derive(Debug)]
pub(super) struct Entry {
    toxic: Toxic,
    id: u64,
    generation: u64,
    touched: Arc<Touched>,
}

impl Entry {
    fn effect(&self) -> Result<Arc<Effect>, Error> {
        Ok(Arc::new(Effect {
            id: self.id,
            generation: self.generation,
            kind: self.toxic.effect(),
            direction: self.toxic.direction()?,
            toxicity: self.toxic.toxicity,
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

    pub fn toxic(&self, name: &str) -> Result<Toxic, Error> {
        let toxics = self.shared.toxics.lock();
        let entry = toxics.iter().find(|entry| entry.toxic.name == name).ok_or(Error::ToxicNotFound)?;
        Ok(entry.toxic.clone())
    }

    /// Adds a toxic; it acts on live connections at once.
    pub fn add_toxic(&self, toxic: Toxic) -> Result<(), Error> {
        let mut toxics = self.shared.toxics.lock();
        if toxics.iter().any(|entry| entry.toxic.name == toxic.name) {
            return Err(Error::ToxicExists);
        }
        let id = self.shared.new_effect_id();
        let entry = Entry { toxic, id, generation: 0, touched: Arc::default() };
        self.shared.put_effect(entry.effect()?);
        toxics.push(entry);
        Ok(())
    }

    /// Changes what is given of a toxic and leaves the rest; changes nothing when a value is wrong.
    pub fn update_toxic(
        &self,
        name: &str,
        attributes: &[(String, Json)],
        toxicity: Option<f32>,
    ) -> Result<Toxic, Error> {
        let mut toxics = self.shared.toxics.lock();
        let entry = toxics.iter_mut().find(|entry| entry.toxic.name == name).ok_or(Error::ToxicNotFound)?;
        entry.toxic.merge(attributes)?;
        entry.toxic.toxicity = toxicity.unwrap_or(entry.toxic.toxicity);
        entry.generation += 1;
        self.shared.put_effect(entry.effect()?);
        Ok(entry.toxic.clone())
    }

    /// Takes a toxic off; what it kept back is delivered.
    pub fn remove_toxic(&self, name: &str) -> Result<(), Error> {
        let mut toxics = self.shared.toxics.lock();
        let index = toxics.iter().position(|entry| entry.toxic.name == name).ok_or(Error::ToxicNotFound)?;
        let entry = toxics.remove(index);
        self.shared.remove_effect(entry.id);
        Ok(())
    }

    /// Takes all toxics off; faults that guards hold stay.
    pub fn remove_toxics(&self) {
        for entry in self.shared.toxics.lock().drain(..) {
            self.shared.remove_effect(entry.id);
        }
    }
}
