//! The mail that tells of a notice: text and HTML, in one thread for each group.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lettre::message::{Mailbox, MultiPart};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;
use sluice_stages::alert::{Notice, Severity};

use crate::delivery::alert_record::{NoticeRecord, Teller, state_name, state_of};
use crate::delivery::alert_text::{printable, text_of};
use crate::delivery::courier::Message;
use crate::delivery::limit::fingerprint;
use crate::delivery::notices::Compose;

const TEMPLATE: &str = "notice.html";
/// Most characters of a subject: what mail clients show of one, and then some.
const MAX_SUBJECT_CHARS: usize = 150;

/// Puts notices into mails.
pub(super) struct Composer {
    from: Mailbox,
    to: Vec<Mailbox>,
    subject_prefix: String,
    external_url: String,
    teller: Teller,
    /// What stands behind the @ of ids.
    domain: String,
    html: Environment<'static>,
}

#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    record: NoticeRecord<'a>,
    subject: &'a str,
    color: &'static str,
    external_url: &'a str,
}

impl Composer {
    /// A composer of mails from `from` to `to`.
    ///
    /// # Errors
    /// If the page is no template, which a test rules out.
    pub(super) fn try_new(
        from: Mailbox,
        to: Vec<Mailbox>,
        subject_prefix: String,
        external_url: String,
        teller: Teller,
    ) -> Result<Self, String> {
        let mut html = Environment::new();
        html.set_auto_escape_callback(|_| AutoEscape::Html);
        html.set_undefined_behavior(UndefinedBehavior::Strict);
        html.add_template(TEMPLATE, include_str!("notice.html")).map_err(|error| error.to_string())?;
        let domain = from.email.domain().to_owned();
        Ok(Self { from, to, subject_prefix, external_url, teller, domain, html })
    }

    /// `[sluice] FIRING error: latency – message`, on one line and not too long.
    fn subject(&self, notice: &Notice) -> String {
        let state = state_name(state_of(notice)).to_uppercase();
        let severity = notice.severity().name();
        let (rule, message) = notice.alerts.first().map_or(("", ""), |worst| (&*worst.rule, &*worst.message));
        let more = match notice.alerts.len() {
            0 | 1 => String::new(),
            count => format!(" (+{})", count - 1),
        };
        let subject = format!("{} {state} {severity}: {rule}{more} – {message}", self.subject_prefix);
        printable(subject.trim_start()).chars().take(MAX_SUBJECT_CHARS).collect()
    }

    fn page(&self, subject: &str, notice: &Notice) -> Result<String, String> {
        let record = NoticeRecord::new(notice, &self.teller).ok_or("it has no alert")?;
        let color = if notice.is_firing() { color(notice.severity()) } else { "#1a7f37" };
        let page = Page { record, subject, color, external_url: &self.external_url };
        let template = self.html.get_template(TEMPLATE).map_err(|error| error.to_string())?;
        template.render(page).map_err(|error| error.to_string())
    }

    fn mail(&self, id: &str, notice: &Notice) -> Result<lettre::Message, String> {
        let subject = self.subject(notice);
        let html = self.page(&subject, notice)?;
        let mut text = text_of(notice, false);
        if !self.external_url.is_empty() {
            text.push_str(&format!("\n{}\n", self.external_url));
        }
        // Nobody ever got the first mail of a thread; those that answer it are shown together all the same.
        let thread = format!("<group-{}@{}>", fingerprint(&notice.group_key), self.domain);
        let sent_at: SystemTime = UNIX_EPOCH + Duration::from_micros(notice.at.0);
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .date(sent_at)
            .message_id(Some(format!("<{id}@{}>", self.domain)))
            .in_reply_to(thread.clone())
            .references(thread);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.multipart(MultiPart::alternative_plain_html(text, html)).map_err(|error| error.to_string())
    }
}

impl Compose for Composer {
    fn compose(&self, id: String, notice: &Notice) -> Result<Message, String> {
        let body = self.mail(&id, notice)?.formatted().into();
        Ok(Message { id, content_type: "message/rfc822".to_owned(), body })
    }
}

/// The colour of what fires, dark enough for white letters.
fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "#0969da",
        Severity::Warning => "#9a6700",
        Severity::Error => "#cf222e",
        Severity::Critical => "#82071e",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::testing::{alert, notice};

    fn composer() -> Composer {
        let mailbox = |text: &str| text.parse().expect("a mailbox");
        let to = vec![mailbox("Ops <ops@example.com>"), mailbox("oncall@example.com")];
        let teller = Teller { pipeline: "demo".to_owned(), channel: "ops".to_owned() };
        let url = "https://sluice.example.com/performance".to_owned();
        Composer::try_new(mailbox("sluice@example.org"), to, "[sluice]".to_owned(), url, teller)
            .expect("the page is a template")
    }

    fn mail(notice: &Notice) -> String {
        let message = composer().compose("alert_1".to_owned(), notice).expect("composed");
        String::from_utf8(message.body.to_vec()).expect("mails are ASCII")
    }

    #[test]
    fn a_mail_has_both_parts_and_belongs_to_its_groups_thread() {
        let firing = mail(&notice("latency", Severity::Error));
        for text in [
            "From: sluice@example.org\r\n",
            "To: Ops <ops@example.com>, oncall@example.com\r\n",
            "Message-ID: <alert_1@example.org>\r\n",
            "Date: Sat, 31 Jan 2026 12:00:00 +0000\r\n",
            "Content-Type: multipart/alternative;",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Type: text/html; charset=utf-8",
        ] {
            assert!(firing.contains(text), "{text} in {firing}");
        }
        let thread = |mail: &str| {
            let line = mail.lines().find(|line| line.starts_with("References: ")).map(str::to_owned);
            line.expect("a thread")
        };
        assert_eq!(thread(&firing), thread(&mail(&notice("latency", Severity::Info))));
        assert_ne!(thread(&firing), thread(&mail(&notice("holes", Severity::Info))));
    }

    #[test]
    fn what_comes_from_elsewhere_is_escaped_and_stays_on_its_line() {
        let mut hostile = notice("latency", Severity::Error);
        hostile.alerts[0].message = "<script>x</script>\r\nBcc: all@example.com".into();
        let composer = composer();
        let subject = composer.subject(&hostile);
        assert!(!subject.contains(['\r', '\n']), "{subject}");
        let page = composer.page(&subject, &hostile).expect("rendered");
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
        let mail = mail(&hostile);
        let head = mail.split("\r\n\r\n").next().expect("a head");
        assert!(!head.contains("\r\nBcc:"), "{head}");
        hostile.alerts = (0..300).map(|number| alert(&"long ".repeat(number), Severity::Info)).collect();
        assert!(composer.subject(&hostile).chars().count() <= MAX_SUBJECT_CHARS);
        assert!(composer.page("", &hostile).expect("rendered").contains("and 200 more"));
    }
}
