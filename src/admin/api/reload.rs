//! `/v1/reload`: reads the configuration again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};

use super::{Api, Error};
use crate::admin::reload::Reloaded;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/v1/reload", post(reload))
}

async fn reload(State(api): State<Arc<Api>>) -> Result<Json<Reloaded>, Error> {
    let outcome = api.reload.ask().await?;
    outcome
        .map(Json)
        .map_err(|problems| Error::new(StatusCode::UNPROCESSABLE_ENTITY, problems.join("\n")))
}
