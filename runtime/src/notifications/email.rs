//! Mails over SMTP, one connection each: `smtps://` with TLS from the first byte, `smtp://` without any, for a relay on
//! this machine or in this network.
//!
//! Absent on purpose: STARTTLS, which RFC 8314 calls the lesser way, and a password that leaves without TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::Message;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::extension::ClientId;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

use super::{Error, Notification};
use crate::config::url::ConnectionUrl;

/// A mail server and who sends.
pub(super) struct Mailer {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    credentials: Option<Credentials>,
    from: Mailbox,
}

impl Mailer {
    pub(super) fn new(url: &ConnectionUrl, from: &str) -> Result<Self, Error> {
        let failed = |source| Error::Setup { what: "the mail server", source };
        let url: Url = url.expose().parse().map_err(|_| failed("its url cannot be read".into()))?;
        let host = url.host_str().ok_or_else(|| failed("its url has no host".into()))?.to_owned();
        let (tls, port) = if url.scheme() == "smtps" {
            let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.into()))?;
            (Some((connector().map_err(failed)?, name)), 465)
        } else {
            (None, 25)
        };
        let text = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let credentials =
            url.password().map(|password| Credentials::new(text(url.username()), text(password)));
        if credentials.is_some() && tls.is_none() {
            return Err(failed("a password is sent with smtps only".into()));
        }
        let from = from.parse::<Mailbox>().map_err(|error| failed(error.into()))?;
        Ok(Self { host, port: url.port().unwrap_or(port), tls, credentials, from })
    }

    pub(super) async fn mail(&self, notification: &Notification) -> Result<(), Error> {
        let message = self.write(notification)?;
        let stream = self.connect().await.map_err(|error| Error::Transport(error.into()))?;
        let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &ClientId::default())
            .await
            .map_err(failure)?;
        let sent = async {
            if let Some(credentials) = &self.credentials {
                connection.auth(DEFAULT_MECHANISMS, credentials).await?;
            }
            connection.send(message.envelope(), &message.formatted()).await
        };
        sent.await.map_err(failure)?;
        // The server has taken the mail; how the conversation ends is of no account.
        connection.abort().await;
        Ok(())
    }

    async fn connect(&self) -> io::Result<Box<dyn AsyncTokioStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(stream)) };
        Ok(Box::new(Tls(connector.connect(name.clone(), stream).await?)))
    }

    fn write(&self, notification: &Notification) -> Result<Message, Error> {
        let Notification { recipient, subject, body, .. } = notification;
        let to = recipient.parse::<Mailbox>();
        let to = to.map_err(|source| Error::Unwritable { what: "recipient", source: source.into() })?;
        // The same id for a repetition, so that whoever gets both knows.
        let id = format!("<{}@{}>", notification.key(), self.from.email.domain());
        let message = Message::builder()
            .message_id(Some(id))
            .from(self.from.clone())
            .to(to)
            .subject(subject.as_str())
            .header(ContentType::TEXT_PLAIN)
            .body(body.clone());
        message.map_err(|source| Error::Unwritable { what: "mail", source: source.into() })
    }
}

/// TLS with the certificates that this machine trusts.
fn connector() -> Result<TlsConnector, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn failure(error: smtp::Error) -> Error {
    match error.status() {
        Some(code) => Error::Smtp { code: code.into() },
        None => Error::Transport(error.into()),
    }
}

/// A connection with TLS as the client takes it.
#[derive(Debug)]
struct Tls(TlsStream<TcpStream>);

impl AsyncTokioStream for Tls {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Classify, ErrorKind};
    use crate::ids::EventId;

    fn mailer(url: &str) -> Result<Mailer, Error> {
        Mailer::new(&ConnectionUrl::parse(url).expect("a URL"), "Shop <shop@example.com>")
    }

    fn notification(recipient: &str, subject: &str) -> Notification {
        Notification {
            id: EventId(uuid::Uuid::from_u128(7)),
            name: "order_confirmation".to_owned(),
            event: "status_changed".to_owned(),
            recipient: recipient.to_owned(),
            subject: subject.to_owned(),
            body: "Thank you.".to_owned(),
            payload: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_mail_names_its_notification_and_no_text_becomes_a_header() {
        let mailer = mailer("smtp://127.0.0.1").expect("a mailer");
        let message =
            mailer.write(&notification("a@example.com", "hello\r\nBcc: x@example.com")).expect("written");
        let text = String::from_utf8(message.formatted()).expect("ASCII");
        let id = "Message-ID: <00000000-0000-0000-0000-000000000007.order_confirmation@example.com>\r\n";
        assert!(text.contains(id), "{text}");
        assert!(!text.contains("\r\nBcc:"), "{text}");
        let error = mailer.write(&notification("nobody", "hello")).expect_err("no address");
        assert_eq!(error.kind(), ErrorKind::BadInput);
    }

    #[test]
    fn a_password_never_leaves_without_tls() {
        assert!(mailer("smtp://user:secret@mail.example.com").is_err());
        let mailer = mailer("smtps://user:p%40ss@mail.example.com").expect("a mailer");
        assert_eq!((mailer.port, mailer.tls.is_some(), mailer.credentials.is_some()), (465, true, true));
    }
}
