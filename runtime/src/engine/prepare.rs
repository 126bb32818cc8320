//! From the text of a request to a plan: parsed and validated once per text, planned once per structure of variables.

use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType};
use async_graphql::{Positioned, Variables};

use super::coerce;
use super::error::Failure;
use super::expansion::{Endless, expansion};
use super::limits;
use super::metrics::LookupLabel;
use super::plan::error::Refusal;
use super::plan::select::Document;
use super::plan::{Plan, args, plan};
use super::plan_cache::Plans;
use super::schema::model::{Schema, TypeRef};
use super::{Inner, Request};
use crate::security::guard::Caller;

/// An operation that was parsed and validated.
pub(super) struct Prepared {
    document: ExecutableDocument,
    operation: Positioned<OperationDefinition>,
    /// As its text says.
    name: Option<async_graphql::Name>,
    /// The types of its variables, which say what of their values is structure.
    variables: Vec<(async_graphql::Name, Option<TypeRef>)>,
    plans: Plans,
}

impl Prepared {
    pub(super) fn kind(&self) -> OperationType {
        self.operation.node.ty
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_ref().map(async_graphql::Name::as_str)
    }

    pub(super) fn operation(&self) -> &OperationDefinition {
        &self.operation.node
    }

    pub(super) fn fragments(
        &self,
    ) -> &std::collections::HashMap<
        async_graphql::Name,
        Positioned<async_graphql::parser::types::FragmentDefinition>,
    > {
        &self.document.fragments
    }

    /// What of the variables decides the SQL.
    fn signature(&self, schema: &Schema, variables: &Variables) -> String {
        let mut signature = String::new();
        for (name, ty) in &self.variables {
            if let Some(ty) = ty {
                args::signature(schema, *ty, variables.get(name), &mut signature);
            }
        }
        signature
    }
}

/// A request that is ready to run.
pub(super) struct Planned {
    pub(super) prepared: Arc<Prepared>,
    pub(super) plan: Arc<Plan>,
    pub(super) variables: Variables,
    /// The lengths of the lists of each root's statement.
    pub(super) sizes: Vec<Vec<u32>>,
    /// For whom it runs.
    pub(super) caller: Caller,
}

impl Inner {
    /// The operation of a request, from the cache when its text was seen before.
    pub(super) async fn prepare(&self, request: &Request) -> Result<Arc<Prepared>, Vec<Failure>> {
        let named;
        let key = match &request.operation_name {
            None => request.query.as_str(),
            Some(name) => {
                named = format!("{name}\n{}", request.query);
                named.as_str()
            }
        };
        if let Some(prepared) = self.prepared.get(key) {
            self.metrics.count_lookup(LookupLabel::hit, 1);
            return Ok(prepared);
        }
        self.metrics.count_lookup(LookupLabel::miss, 1);
        let prepared = Arc::new(self.parse(request).await?);
        let evicted = self.prepared.insert(key, prepared.clone());
        self.metrics.count_lookup(LookupLabel::evicted, evicted.0 as u64);
        self.metrics.cached.set(i64::try_from(self.prepared.size().0).unwrap_or(i64::MAX));
        Ok(prepared)
    }

    async fn parse(&self, request: &Request) -> Result<Prepared, Vec<Failure>> {
        let refuse = |refusal| vec![Failure::refusal(&refusal)];
        limits::check_text(&request.query, &self.settings.limits).map_err(refuse)?;
        let document =
            parse_query(&request.query).map_err(|error| vec![Failure::validation(&error.into())])?;
        self.check_expansion(&document).map_err(refuse)?;
        let mut validated = async_graphql::Request::new(&request.query);
        validated.operation_name.clone_from(&request.operation_name);
        validated.set_parsed_query(document.clone());
        let answer = self.graphql.validate(validated).await;
        if !answer.errors.is_empty() {
            // The library walks the operations of a text in no order: the same text has the same answer here.
            let mut errors: Vec<_> = answer.errors.iter().collect();
            errors.sort_by(|a, b| (&a.locations, &a.message).cmp(&(&b.locations, &b.message)));
            return Err(errors.into_iter().map(Failure::validation).collect());
        }
        let wanted = request.operation_name.as_deref();
        let operation = document
            .operations
            .iter()
            .find(|(name, _)| wanted.is_none() || name.map(|name| name.as_str()) == wanted)
            .map(|(name, operation)| (name.cloned(), operation.clone()));
        let (name, operation) = operation.ok_or_else(|| {
            vec![Failure::of_kind(crate::error::ErrorKind::BadInput, "there is no operation of this name")]
        })?;
        let definitions = operation.node.variable_definitions.iter();
        let variables = definitions
            .map(|definition| {
                let ty = coerce::type_ref(&self.schema, &definition.node.var_type.node);
                (definition.node.name.node.clone(), ty)
            })
            .collect();
        Ok(Prepared { document, operation, name, variables, plans: Plans::default() })
    }

    /// Validation would walk whatever fragments come to.
    fn check_expansion(&self, document: &ExecutableDocument) -> Result<(), Refusal> {
        let pos = async_graphql::Pos::default();
        match expansion(document) {
            Ok(expansion) => limits::check_expansion(expansion, self.settings.limits.complexity_max),
            Err(endless @ Endless::TooDeep) => {
                Err(Refusal { pos, code: "LIMIT_EXCEEDED", message: endless.to_string() })
            }
            Err(endless @ Endless::Cycle) => {
                Err(Refusal { pos, code: "VALIDATION", message: endless.to_string() })
            }
        }
    }

    /// Everything that can be known before anything runs.
    pub(super) async fn plan(&self, request: &Request) -> Result<Planned, Vec<Failure>> {
        let prepared = self.prepare(request).await?;
        let refuse = |refusal| vec![Failure::refusal(&refusal)];
        let variables = coerce::variables(&self.schema, prepared.operation(), &request.variables)
            .map_err(|problems| problems.iter().map(Failure::refusal).collect::<Vec<_>>())?;
        let signature = prepared.signature(&self.schema, &variables);
        let plan = match prepared.plans.get(&signature) {
            Some(plan) => plan,
            None => {
                let fragments = &prepared.document.fragments;
                let document = Document { schema: &self.schema, fragments, variables: &variables };
                let made = Arc::new(plan(document, prepared.operation()).map_err(refuse)?);
                limits::check_depth(made.depth, &self.settings.limits).map_err(refuse)?;
                limits::check_roots(made.roots.len(), &self.settings.limits).map_err(refuse)?;
                prepared.plans.insert(signature, made.clone());
                made
            }
        };
        let sizes = plan.sizes(&variables).map_err(refuse)?;
        let complexity = plan.complexity(&sizes);
        self.metrics.complexity.observe(complexity as f64);
        limits::check_complexity(complexity, &self.settings.limits).map_err(refuse)?;
        Ok(Planned { prepared, plan, variables, sizes, caller: Caller::Anonymous })
    }
}
