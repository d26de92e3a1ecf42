//! `/v1/log-level`: the least severe lines that are logged, until the server ends.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::input::Body;
use super::{Api, Error};
use crate::config::LogLevel;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/v1/log-level", get(show).put(change))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Level {
    level: LogLevel,
}

async fn show(State(api): State<Arc<Api>>) -> Json<Level> {
    Json(Level {
        level: api.log_level.get(),
    })
}

async fn change(
    State(api): State<Arc<Api>>,
    Body(Level { level }): Body<Level>,
) -> Result<Json<Level>, Error> {
    let before = api.log_level.get();
    // Told at whichever of the two is logged more at.
    if level < before {
        tracing::warn!(?before, ?level, "the log level changes");
    }
    api.log_level.set(level);
    if level >= before {
        tracing::warn!(?before, ?level, "the log level changes");
    }
    Ok(Json(Level { level }))
}
