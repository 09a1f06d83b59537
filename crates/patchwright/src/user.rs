//! `patchwright user`: people, from the machine itself, for when nobody can sign in.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use domain::cloud::Login;
use store::Actor;

use crate::data::data_directory;
use crate::failure::helped;
use crate::up::{new_password, open_store, store_failed};

/// Keep people from the machine itself.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Give a person a new password; end its sessions, tokens, codes and passkeys.
    ///
    /// Whoever can read the data directory may do so: it is for the day on which no administrator can
    /// sign in. It stands in the ledger like any other change. The control plane may run or rest.
    Reset {
        /// Whom.
        login: Login,
        /// Where all is kept. By default the user's data directory.
        #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
        data: Option<PathBuf>,
        /// A database elsewhere: a file, or `postgres://USER@HOST/DATABASE`.
        #[arg(long, value_name = "ADDRESS", env = "PATCHWRIGHT_DATABASE", hide_env_values = true)]
        database: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &UserArgs) -> Result<ExitCode> {
    let Command::Reset { login, data, database } = &arguments.command;
    let data = match data {
        Some(data) => data.clone(),
        None => data_directory()?,
    };
    if database.is_none() && !data.join("patchwright.db").is_file() {
        let error = anyhow!("there is no control plane in `{}`", data.display());
        return Err(helped(error, "name its data directory with --data DIR"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let store = open_store(database.as_deref(), &data).await?;
        let password = new_password()?;
        let hash = server::hash_password(&store, &password)
            .map_err(|problem| anyhow!("{}", problem.detail()))?;
        let found = store.user_by_login(login).await.map_err(store_failed)?;
        let (user, _) = found.ok_or_else(|| {
            helped(anyhow!("nobody signs in as `{login}`"), "`patchwright get users` lists them")
        })?;
        let user = store.reset_user(&Actor::System, user.id, hash).await.map_err(store_failed)?;
        store.close().await;
        println!("sign in  {}  {password}  (shown this once: keep it)", user.login);
        Ok(ExitCode::SUCCESS)
    })
}
