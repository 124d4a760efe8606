//! The endpoints of a source: one `url`, or a list that is managed as a group. Pure.
//!
//! Endpoints of a list share all options of their source but those of [`ListedEndpoint`].

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::secret::Secret;

use super::group::{GroupPolicy, MemberPolicy};
use super::options::YellowstoneOptions;

/// How the endpoints of a list work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All `active` endpoints are subscribed to at once and whatever comes first goes on first; `standby` endpoints take
    /// the place of those that fail.
    #[default]
    Race,
    /// One endpoint is subscribed to; the others stand by.
    Failover,
    /// One endpoint is subscribed to; a second one joins while the first lags.
    Hedged,
}

/// What an endpoint of a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointRole {
    /// It is subscribed to as the mode says.
    #[default]
    Active,
    /// It is connected and subscribed to slots only, and steps in when there are too few others.
    Standby,
}

/// An endpoint of a list.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListedEndpoint {
    /// Its name behind the source's. Default: its region if no other of the list has it, otherwise its place in the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The server, `https://host[:port]` or `http://host:port`.
    pub url: String,
    /// Where it is, as in the source's `region`. Default: that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Which endpoint is preferred: 1 goes before 2. Among equals the faster one does. Default 1.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// Token sent as `x-token`. Default: the source's `x_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Whether it is used from the beginning or only stands by. Default active.
    #[serde(default)]
    pub role: EndpointRole,
}

fn default_priority() -> u32 {
    1
}

impl ListedEndpoint {
    /// An active endpoint of the first priority.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            name: None,
            url: url.into(),
            region: None,
            priority: default_priority(),
            token: None,
            role: EndpointRole::default(),
        }
    }
}

/// An endpoint with all that it shares with its source.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its full name: the source's, and its own behind a slash if it is one of a list.
    pub name: Arc<str>,
    /// How to reach it and what to ask it for.
    pub options: YellowstoneOptions,
    /// How the group sees it.
    pub policy: MemberPolicy,
}

impl YellowstoneOptions {
    /// The endpoints of the source called `source`.
    pub fn members(&self, source: &str) -> Vec<Member> {
        if self.endpoints.is_empty() {
            let policy = MemberPolicy { priority: default_priority(), role: EndpointRole::Active };
            return vec![Member { name: Arc::from(source), options: self.clone(), policy }];
        }
        let names = names(&self.endpoints);
        let member = |(listed, name): (&ListedEndpoint, String)| Member {
            name: Arc::from(format!("{source}/{name}")),
            options: self.of(listed),
            policy: MemberPolicy { priority: listed.priority, role: listed.role },
        };
        self.endpoints.iter().zip(names).map(member).collect()
    }

    /// What decides about the group.
    pub fn group_policy(&self) -> GroupPolicy {
        GroupPolicy {
            mode: self.mode,
            error_threshold: self.error_threshold,
            reset_timeout: self.reset_timeout,
            max_lag: self.max_lag,
            failback_after: self.failback_after,
            quarantine: self.quarantine,
        }
    }

    fn of(&self, listed: &ListedEndpoint) -> Self {
        Self {
            url: listed.url.clone(),
            endpoints: Vec::new(),
            region: listed.region.clone().or_else(|| self.region.clone()),
            x_token: listed.token.clone().or_else(|| self.x_token.clone()),
            ..self.clone()
        }
    }
}

/// The names of a list's endpoints, without the source's.
pub fn names(listed: &[ListedEndpoint]) -> Vec<String> {
    let mut regions: BTreeMap<&str, u32> = BTreeMap::new();
    for region in listed.iter().filter_map(|endpoint| endpoint.region.as_deref()) {
        *regions.entry(region).or_default() += 1;
    }
    let name = |(place, endpoint): (usize, &ListedEndpoint)| match (&endpoint.name, &endpoint.region) {
        (Some(name), _) => name.clone(),
        (None, Some(region)) if regions.get(region.as_str()) == Some(&1) => region.clone(),
        _ => (place + 1).to_string(),
    };
    listed.iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> YellowstoneOptions {
        toml::from_str(text).expect("valid options")
    }

    fn member_names(text: &str) -> Vec<String> {
        options(text).members("main").iter().map(|member| member.name.to_string()).collect()
    }

    #[test]
    fn a_single_url_keeps_the_name_of_its_source() {
        assert_eq!(member_names("url = 'https://host'"), ["main"]);
    }

    #[test]
    fn listed_endpoints_are_named_by_name_region_or_place() {
        let text = "endpoints = [
            { url = 'https://a', name = 'first', region = 'us' },
            { url = 'https://b', region = 'eu' },
            { url = 'https://c', region = 'asia' },
            { url = 'https://d', region = 'asia' },
        ]";
        assert_eq!(member_names(text), ["main/first", "main/eu", "main/3", "main/4"]);
    }

    #[test]
    fn what_an_endpoint_does_not_say_it_has_from_its_source() {
        let text = "x_token = 'shared'\nregion = 'us'\nidle_timeout = '7s'\nendpoints = [
            { url = 'https://a', token = 'own', role = 'standby', priority = 3 },
            { url = 'https://b' },
        ]";
        let members = options(text).members("main");
        let token = |member: &Member| member.options.x_token.as_ref().map(|token| token.expose().to_owned());
        assert_eq!(
            members.iter().map(token).collect::<Vec<_>>(),
            [Some("own".to_owned()), Some("shared".to_owned())]
        );
        assert!(members.iter().all(|member| member.options.idle_timeout.as_secs() == 7));
        assert!(members.iter().all(|member| member.options.region.as_deref() == Some("us")));
        assert_eq!(members[0].policy, MemberPolicy { priority: 3, role: EndpointRole::Standby });
        assert!(!format!("{members:?}").contains("own"), "tokens are not shown");
    }
}
