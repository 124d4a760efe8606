//! One conversation with an SMTP server (RFC 5321): whoever of the recipients it takes gets the mail.

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::DEFAULT_MECHANISMS;
use lettre::transport::smtp::client::{AsyncSmtpConnection, Tls};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};

use super::smtp::{Server, is_for_good};

/// What became of a mail, by recipient.
#[derive(Debug, Default)]
pub(super) struct Put {
    /// Who has it.
    pub(super) taken: Vec<Address>,
    /// Who will never get it, and what the server said.
    pub(super) refused: Vec<(Address, Error)>,
    /// Who may get it later, and what the server said.
    pub(super) later: Vec<(Address, Error)>,
}

/// An open connection, encrypted and logged in as the options have it.
pub(super) struct Dialog(AsyncSmtpConnection);

impl Dialog {
    /// Connects.
    ///
    /// # Errors
    /// If the server can't be reached, is not who it should be, or does not let us in.
    pub(super) async fn open(server: &Server) -> Result<Self, Error> {
        let hello = ClientId::default();
        let place = (server.host.as_str(), server.port);
        let wrapper = match &server.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let timeout = Some(server.timeout);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, timeout, &hello, wrapper, None).await?;
        if let Tls::Required(parameters) = &server.tls {
            connection.starttls(parameters.clone(), &hello).await?;
        }
        if let Some(credentials) = &server.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(Self(connection))
    }

    /// Gives the server a mail for those of `to` that it takes.
    ///
    /// # Errors
    /// If it refuses the mail, puts it off, or the connection breaks: nobody has it then, as far as is known.
    pub(super) async fn put(&mut self, from: &Address, to: &[Address], mail: &[u8]) -> Result<Put, Error> {
        let parameters = self.parameters(from, to, mail);
        self.0.command(Mail::new(Some(from.clone()), parameters)).await?;
        let mut put = Put::default();
        for address in to {
            match self.0.command(Rcpt::new(address.clone(), Vec::new())).await {
                Ok(_) => put.taken.push(address.clone()),
                Err(error) if is_for_good(&error) => put.refused.push((address.clone(), error)),
                Err(error) if is_about_recipient(&error) => put.later.push((address.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        if !put.taken.is_empty() {
            self.0.command(Data).await?;
            self.0.message(mail).await?;
        }
        Ok(put)
    }

    /// Takes leave. What was said before counts, whatever the server answers.
    pub(super) async fn close(mut self) {
        self.0.abort().await;
    }

    /// What the server has to know of a mail that is not plain ASCII, as far as it can take such.
    fn parameters(&self, from: &Address, to: &[Address], mail: &[u8]) -> Vec<MailParameter> {
        let info = self.0.server_info();
        let mut addresses = to.iter().chain([from]);
        let mut parameters = Vec::new();
        if addresses.any(|address| !<Address as AsRef<str>>::as_ref(address).is_ascii())
            && info.supports_feature(Extension::SmtpUtfEight)
        {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !mail.is_ascii() && info.supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        parameters
    }
}

/// Whether a passing refusal is about one recipient; 421 ends the conversation, and 5xx that reach this are about us.
fn is_about_recipient(error: &Error) -> bool {
    error.status().map(u16::from).is_some_and(|code| (400..=499).contains(&code) && code != 421)
}
