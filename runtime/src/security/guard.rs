//! Who calls, and what they may: pure decisions over facts that were established elsewhere.
//!
//! Promises: nobody becomes somebody here, a [`Caller`] is made by what checked a credential; what is not known is denied:
//! a rule that names a guard which nobody registered lets nobody through. A guard decides by the caller and the place
//! alone, so the same caller gets the same decision for a plan that was made for another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Who makes a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Caller {
    /// Nobody that is known.
    #[default]
    Anonymous,
    /// Somebody who has shown who they are.
    Known(Arc<Identity>),
}

/// Somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Their name among all callers, for logs and for answers that are theirs alone.
    pub id: String,
    /// What they are.
    pub roles: BTreeSet<String>,
}

impl Caller {
    /// Somebody with these roles, whose credential was checked.
    pub fn known<R: Into<String>>(id: impl Into<String>, roles: impl IntoIterator<Item = R>) -> Self {
        let roles = roles.into_iter().map(Into::into).collect();
        Self::Known(Arc::new(Identity { id: id.into(), roles }))
    }

    /// Who it is, if that is known.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Anonymous => None,
            Self::Known(identity) => Some(identity),
        }
    }
}

/// Why a caller may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Who they are is not known, and it must be.
    Unauthenticated,
    /// They are known, and may not.
    Forbidden,
}

/// What a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The type.
    pub object: &'a str,
    /// Its field; `None` for the type as a whole.
    pub field: Option<&'a str>,
}

/// A decision about who may ask for something.
pub trait Guard: Send + Sync {
    /// Whether the caller may.
    ///
    /// # Errors
    /// Why not.
    fn check(&self, caller: &Caller, asked: Asked<'_>) -> Result<(), Denied>;

    /// This and the other.
    fn and<G: Guard>(self, other: G) -> And<Self, G>
    where
        Self: Sized,
    {
        And(self, other)
    }

    /// This or the other.
    fn or<G: Guard>(self, other: G) -> Or<Self, G>
    where
        Self: Sized,
    {
        Or(self, other)
    }

    /// Whoever this denies.
    fn not(self) -> Not<Self>
    where
        Self: Sized,
    {
        Not(self)
    }
}

impl<F: Fn(&Caller, Asked<'_>) -> Result<(), Denied> + Send + Sync> Guard for F {
    fn check(&self, caller: &Caller, asked: Asked<'_>) -> Result<(), Denied> {
        self(caller, asked)
    }
}

/// Whoever is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Authenticated;

impl Guard for Authenticated {
    fn check(&self, caller: &Caller, _asked: Asked<'_>) -> Result<(), Denied> {
        caller.identity().map(|_| ()).ok_or(Denied::Unauthenticated)
    }
}

/// Whoever has this role.
#[derive(Debug, Clone)]
pub struct Role(pub String);

impl Guard for Role {
    fn check(&self, caller: &Caller, _asked: Asked<'_>) -> Result<(), Denied> {
        let identity = caller.identity().ok_or(Denied::Unauthenticated)?;
        if identity.roles.contains(&self.0) { Ok(()) } else { Err(Denied::Forbidden) }
    }
}

/// Whoever both let through.
#[derive(Debug, Clone)]
pub struct And<A, B>(A, B);

impl<A: Guard, B: Guard> Guard for And<A, B> {
    fn check(&self, caller: &Caller, asked: Asked<'_>) -> Result<(), Denied> {
        self.0.check(caller, asked).and_then(|()| self.1.check(caller, asked))
    }
}

/// Whoever one of them lets through.
#[derive(Debug, Clone)]
pub struct Or<A, B>(A, B);

impl<A: Guard, B: Guard> Guard for Or<A, B> {
    fn check(&self, caller: &Caller, asked: Asked<'_>) -> Result<(), Denied> {
        let Err(first) = self.0.check(caller, asked) else { return Ok(()) };
        let Err(second) = self.1.check(caller, asked) else { return Ok(()) };
        // Who may get in by signing in is told so.
        Err(if first == Denied::Unauthenticated { first } else { second })
    }
}

/// Whoever the other denies. It cannot know why a caller should be somebody else, so it forbids.
#[derive(Debug, Clone)]
pub struct Not<A>(A);

impl<A: Guard> Guard for Not<A> {
    fn check(&self, caller: &Caller, asked: Asked<'_>) -> Result<(), Denied> {
        match self.0.check(caller, asked) {
            Ok(()) => Err(Denied::Forbidden),
            Err(_) => Ok(()),
        }
    }
}

/// Guards by the names that schema files call them by. Clones share them.
#[derive(Clone, Default)]
pub struct Guards(Arc<BTreeMap<String, Arc<dyn Guard>>>);

impl Guards {
    /// With one more, or another one of this name.
    #[must_use]
    pub fn with(self, name: impl Into<String>, guard: impl Guard + 'static) -> Self {
        let mut guards = Arc::unwrap_or_clone(self.0);
        guards.insert(name.into(), Arc::new(guard));
        Self(Arc::new(guards))
    }

    /// Whether there is one of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// What a schema asks of callers: that they are known, have one of the roles, and that each of the guards lets them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// One of these is enough; without one being known is.
    pub roles: Vec<String>,
    /// Names of guards, all of which must let the caller through. They alone decide when there are no roles.
    pub guards: Vec<String>,
}

impl Rule {
    /// Whether the caller may.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, guards: &Guards, caller: &Caller, asked: Asked<'_>) -> Result<(), Denied> {
        if self.guards.is_empty() || !self.roles.is_empty() {
            let identity = caller.identity().ok_or(Denied::Unauthenticated)?;
            if !self.roles.is_empty() && !self.roles.iter().any(|role| identity.roles.contains(role)) {
                return Err(Denied::Forbidden);
            }
        }
        self.guards.iter().try_for_each(|name| match guards.0.get(name) {
            Some(guard) => guard.check(caller, asked),
            None => Err(Denied::Forbidden),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked { object: "User", field: Some("email") };

    fn role(name: &str) -> Role {
        Role(name.to_owned())
    }

    fn somebody(roles: &[&str]) -> Caller {
        Caller::known("somebody", roles.iter().copied())
    }

    #[test]
    fn guards_are_combined() {
        let (nobody, editor, both) =
            (Caller::default(), somebody(&["EDITOR"]), somebody(&["EDITOR", "ADMIN"]));
        let (unauthenticated, forbidden) = (Err(Denied::Unauthenticated), Err(Denied::Forbidden));
        type Case = (Box<dyn Guard>, [Result<(), Denied>; 3]);
        let cases: [Case; 6] = [
            (Box::new(Authenticated), [unauthenticated, Ok(()), Ok(())]),
            (Box::new(role("ADMIN")), [unauthenticated, forbidden, Ok(())]),
            (Box::new(role("ADMIN").and(role("EDITOR"))), [unauthenticated, forbidden, Ok(())]),
            (Box::new(role("ADMIN").or(role("EDITOR"))), [unauthenticated, Ok(()), Ok(())]),
            (Box::new(Authenticated.and(role("ADMIN").not())), [unauthenticated, Ok(()), forbidden]),
            (Box::new(Authenticated.not()), [Ok(()), forbidden, forbidden]),
        ];
        for (at, (guard, expected)) in cases.into_iter().enumerate() {
            let found = [&nobody, &editor, &both].map(|caller| guard.check(caller, ASKED));
            assert_eq!(found, expected, "{at}");
        }
    }

    #[test]
    fn a_function_is_a_guard_and_sees_what_is_asked_for() {
        let own = |caller: &Caller, asked: Asked<'_>| match caller.identity() {
            Some(identity) if identity.id == asked.object => Ok(()),
            _ => Err(Denied::Forbidden),
        };
        let guards = Guards::default().with("own", own);
        let rule = Rule { roles: Vec::new(), guards: vec!["own".to_owned()] };
        assert_eq!(rule.check(&guards, &Caller::known("User", [""]), ASKED), Ok(()));
        assert_eq!(rule.check(&guards, &Caller::Anonymous, ASKED), Err(Denied::Forbidden));
    }

    #[test]
    fn a_rule_needs_one_role_and_every_guard_and_an_unknown_guard_lets_nobody() {
        let rule = |roles: &[&str], guards: &[&str]| Rule {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            guards: guards.iter().map(|guard| (*guard).to_owned()).collect(),
        };
        let guards =
            Guards::default().with("admin", role("ADMIN")).with("any", Authenticated.or(Authenticated.not()));
        let check = |rule: Rule, caller: &Caller| rule.check(&guards, caller, ASKED);
        let (nobody, editor, both) =
            (Caller::default(), somebody(&["EDITOR"]), somebody(&["EDITOR", "ADMIN"]));
        assert_eq!(check(rule(&[], &[]), &nobody), Err(Denied::Unauthenticated));
        assert_eq!(check(rule(&[], &[]), &editor), Ok(()));
        assert_eq!(check(rule(&["X", "EDITOR"], &[]), &editor), Ok(()));
        assert_eq!(check(rule(&["X"], &[]), &both), Err(Denied::Forbidden));
        assert_eq!(check(rule(&["EDITOR"], &["admin"]), &editor), Err(Denied::Forbidden));
        assert_eq!(check(rule(&["EDITOR"], &["admin", "any"]), &both), Ok(()));
        assert_eq!(check(rule(&[], &["any"]), &nobody), Ok(()));
        assert_eq!(check(rule(&[], &["missing"]), &both), Err(Denied::Forbidden));
    }
}
