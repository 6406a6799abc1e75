//! Credential plugins of kubeconfigs (`exec`): a program that prints an ExecCredential.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Remembered, Shown, Source};
use crate::Result;
use crate::https::{Server, unavailable};

/// The group whose versions plugins speak.
const GROUP: &str = "client.authentication.k8s.io/";

/// `users[].user.exec` of a kubeconfig.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecConfig {
    /// The version of its answers.
    pub api_version: String,
    /// The program.
    pub command: String,
    #[serde(deserialize_with = "nullable")]
    args: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    env: Vec<Variable>,
    install_hint: String,
    provide_cluster_info: bool,
    interactive_mode: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Variable {
    name: String,
    value: String,
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> std::result::Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl ExecConfig {
    /// What is wrong with it, in client-go's words.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let version = self.api_version.strip_prefix(GROUP).unwrap_or_default();
        if self.command.is_empty() {
            return Err("command must be specified to use exec authentication plugin".into());
        }
        if self.api_version.is_empty() {
            return Err("apiVersion must be specified to use exec authentication plugin".into());
        }
        if !matches!(version, "v1" | "v1beta1") {
            return Err(format!("exec plugin: invalid apiVersion {:?}", self.api_version));
        }
        match self.interactive_mode.as_str() {
            "" if version == "v1" => Err("interactiveMode must be specified to use exec authentication plugin".into()),
            "" | "Never" | "IfAvailable" => Ok(()),
            "Always" => Err("exec plugin cannot support interactive mode: standard input is unavailable".into()),
            other => Err(format!("invalid interactiveMode for exec authentication plugin: {other:?}")),
        }
    }

    /// A path in it is relative to the kubeconfig's directory; a bare name is looked up.
    pub(crate) fn absolute(&mut self, dir: &Path) {
        if self.command.contains('/') {
            self.command = dir.join(&self.command).to_string_lossy().into_owned();
        }
    }
}

/// A plugin, and what it gave last.
#[derive(Debug)]
pub(crate) struct Plugin {
    config: ExecConfig,
    /// What it is told.
    info: String,
    known: Remembered,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    kind: String,
    api_version: String,
    status: Option<Given>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    #[serde(deserialize_with = "nullable")]
    expiration_timestamp: String,
    token: String,
    client_certificate_data: String,
    client_key_data: String,
}

impl Plugin {
    pub(crate) fn new(config: ExecConfig, server: &Server) -> Self {
        let mut spec = json!({"interactive": false});
        if config.provide_cluster_info {
            spec["cluster"] = cluster(server);
        }
        let info = json!({"kind": "ExecCredential", "apiVersion": config.api_version, "spec": spec}).to_string();
        Self { config, info, known: Remembered::default() }
    }

    async fn run(&self) -> std::result::Result<(Shown, Option<jiff::Timestamp>), String> {
        let config = &self.config;
        let program = &config.command;
        let output = tokio::process::Command::new(program)
            .args(&config.args)
            .envs(config.env.iter().map(|variable| (&variable.name, &variable.value)))
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .output()
            .await;
        let output = output.map_err(|error| match error.kind() {
            ErrorKind::NotFound if config.install_hint.is_empty() => format!("exec: executable {program} not found"),
            ErrorKind::NotFound => format!("exec: executable {program} not found\n\n{}", config.install_hint),
            _ => format!("exec: {error}"),
        })?;
        if !output.status.success() {
            let code = output.status.code().unwrap_or(-1);
            return Err(format!("exec: executable {program} failed with exit code {code}"));
        }
        self.given(&output.stdout)
    }

    fn given(&self, printed: &[u8]) -> std::result::Result<(Shown, Option<jiff::Timestamp>), String> {
        let answer: Answer = serde_json::from_slice(printed).map_err(|e| format!("decoding stdout: {e}"))?;
        let wanted = &self.config.api_version;
        if answer.kind != "ExecCredential" || answer.api_version != *wanted {
            let returned = &answer.api_version;
            return Err(format!(
                "exec plugin is configured to use API version {wanted}, plugin returned version {returned}"
            ));
        }
        let given = answer.status.ok_or("exec plugin didn't return a status field")?;
        let certificate = match (given.client_certificate_data, given.client_key_data) {
            (cert, key) if cert.is_empty() && key.is_empty() => None,
            (cert, key) if cert.is_empty() || key.is_empty() => {
                return Err("exec plugin returned only certificate or key, not both".into());
            }
            pair => Some(pair),
        };
        let token = Some(given.token).filter(|token| !token.is_empty());
        if token.is_none() && certificate.is_none() {
            return Err("exec plugin didn't return a token or cert/key pair".into());
        }
        let until = match given.expiration_timestamp.as_str() {
            "" => None,
            at => Some(at.parse().map_err(|e| format!("decoding stdout: {e}"))?),
        };
        Ok((Shown { token, certificate }, until))
    }
}

/// What a plugin may know of the server.
fn cluster(server: &Server) -> Value {
    let mut cluster = json!({"server": server.url});
    if let Some(name) = &server.tls_server_name {
        cluster["tls-server-name"] = name.as_str().into();
    }
    if server.insecure {
        cluster["insecure-skip-tls-verify"] = true.into();
    }
    if let Some(pem) = &server.ca_pem {
        cluster["certificate-authority-data"] = BASE64_STANDARD.encode(pem).into();
    }
    cluster["config"] = Value::Null;
    cluster
}

#[async_trait]
impl Source for Plugin {
    async fn shown(&self) -> Result<Shown> {
        let failed = |why| unavailable(format!("getting credentials: {why}"));
        self.known.or(|| async { self.run().await.map_err(failed) }).await
    }

    async fn forget(&self, shown: &Shown) {
        self.known.forget(shown).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> Plugin {
        let version = format!("{GROUP}v1");
        let config = ExecConfig {
            api_version: version,
            command: "sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![Variable { name: "WHO".into(), value: "me".into() }],
            interactive_mode: "Never".into(),
            provide_cluster_info: true,
            ..ExecConfig::default()
        };
        config.check().unwrap();
        Plugin::new(config, &Server { url: "https://h".into(), ..Server::default() })
    }

    #[tokio::test]
    async fn tokens_are_remembered_until_they_expire_or_are_refused() {
        let dir = std::env::temp_dir().join(format!("exec-plugin-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let count = dir.join("count");
        let script = |until: &str| {
            format!(
                r#"echo >> {}; case "$KUBERNETES_EXEC_INFO" in *https://h*) ;; *) exit 3;; esac
                echo '{{"kind":"ExecCredential","apiVersion":"{GROUP}v1","status":{{"token":"'$WHO-$(wc -l < {})'"{until}}}}}'"#,
                count.display(),
                count.display()
            )
        };
        let token = async |plugin: &Plugin| plugin.shown().await.unwrap().token.unwrap();
        let lasting = plugin(&script(r#","expirationTimestamp":"2999-01-01T00:00:00Z""#));
        assert_eq!((token(&lasting).await, token(&lasting).await), ("me-1".into(), "me-1".into()));
        lasting.forget(&lasting.shown().await.unwrap()).await;
        assert_eq!(token(&lasting).await, "me-2");
        let short = plugin(&script(r#","expirationTimestamp":"2001-01-01T00:00:00Z""#));
        assert_eq!((token(&short).await, token(&short).await), ("me-3".into(), "me-4".into()));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[tokio::test]
    async fn what_gives_no_credential_says_why() {
        let answer = |status: &str| format!(r#"echo '{{"kind":"ExecCredential","apiVersion":"{GROUP}v1"{status}}}'"#);
        for (script, why) in [
            ("exit 7".to_owned(), "exec: executable sh failed with exit code 7"),
            ("echo nothing".to_owned(), "decoding stdout"),
            (answer(""), "exec plugin didn't return a status field"),
            (answer(r#","status":{}"#), "exec plugin didn't return a token or cert/key pair"),
            (answer(r#","status":{"clientKeyData":"k"}"#), "only certificate or key, not both"),
            ("echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"v2\"}'".to_owned(), "plugin returned version v2"),
        ] {
            let status = plugin(&script).shown().await.unwrap_err();
            assert!(status.message.contains(why), "{status}");
        }
    }
}
