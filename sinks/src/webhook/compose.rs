//! The body that tells of a notice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::alert::Notice;

use crate::delivery::alert_record::{NoticeRecord, Teller};
use crate::delivery::alertmanager::WebhookBody;
use crate::delivery::courier::Message;
use crate::delivery::notices::Compose;
use crate::delivery::template::Template;

/// What bodies of notices look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertFormat {
    /// Sluice's own: `{severity, metric, value, threshold, message, timestamp, …}`.
    #[default]
    Sluice,
    /// What Alertmanager sends to its webhook receivers, version 4.
    Alertmanager,
    /// What Alertmanager itself takes: alerts are posted to its `/api/v2/alerts`, and again while they fire.
    AlertmanagerV2,
}

/// Puts notices into words.
pub(super) struct Composer {
    pub(super) format: AlertFormat,
    /// Wins over the format.
    pub(super) template: Option<Template>,
    /// What a template's text is.
    pub(super) content_type: String,
    pub(super) teller: Teller,
    pub(super) external_url: String,
}

impl Compose for Composer {
    fn compose(&self, id: String, notice: &Notice) -> Result<Message, String> {
        let json = "application/json".to_owned();
        let (content_type, body) = match (&self.template, self.format) {
            (Some(template), _) => {
                let record = NoticeRecord::new(notice, &self.teller).ok_or("it has no alert")?;
                (self.content_type.clone(), template.render(&record)?.into_bytes())
            }
            (None, AlertFormat::Alertmanager) => {
                (json, to_json(&WebhookBody::new(notice, &self.teller, &self.external_url))?)
            }
            // The intake is fed with alerts, not with notices.
            (None, AlertFormat::Sluice | AlertFormat::AlertmanagerV2) => {
                (json, to_json(&NoticeRecord::new(notice, &self.teller).ok_or("it has no alert")?)?)
            }
        };
        Ok(Message { id, content_type, body: body.into() })
    }
}

fn to_json(body: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(body).map_err(|error| error.to_string())
}
