//! `/v1/drain`: no new allocations, and the end once the old ones are over.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::info::DrainingNow;
use super::input::Body;
use super::{Api, Error};
use crate::admin::DEADLINE_S_MAX;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/v1/drain", post(begin).delete(undo))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    deadline_s: Option<u32>,
}

#[derive(Serialize)]
struct Progress {
    draining: Option<DrainingNow>,
    allocations: u32,
}

async fn begin(
    State(api): State<Arc<Api>>,
    Body(Begin { deadline_s }): Body<Begin>,
) -> Result<Json<Progress>, Error> {
    if deadline_s.is_some_and(|deadline_s| deadline_s > DEADLINE_S_MAX) {
        let text = format!("deadline_s: write 0 to {DEADLINE_S_MAX} seconds, or leave it out");
        return Err(Error::bad_request(text));
    }
    let deadline = deadline_s.map(|seconds| Duration::from_secs(seconds.into()));
    api.drain.begin(deadline).await?;
    Ok(progress(&api))
}

async fn undo(State(api): State<Arc<Api>>) -> Result<Json<Progress>, Error> {
    api.drain.undo().await?;
    Ok(progress(&api))
}

fn progress(api: &Api) -> Json<Progress> {
    Json(Progress {
        draining: api.drain.state().map(DrainingNow::from),
        allocations: api.control.shared().quota.total(),
    })
}
