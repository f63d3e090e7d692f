//! Who a session is: who logged in, SET SESSION AUTHORIZATION and SET ROLE.
//!
//! In: names of roles. Out: the role whose privileges hold now. Invariant: a session becomes another role only when its
//! session user is a superuser or a member of it; `is_superuser` and `session_authorization` are always those of now.
//! Deliberately absent: privileges (`privileges`), and how a client proves who it is (the server's).

use std::sync::atomic::Ordering;

use squilla_core::error::{Error, Kind, Result};

use crate::catalog::roles::no_role;
use crate::session::{Inner, Session};

/// The roles of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who logged in.
    pub authenticated: String,
    /// session_user
    pub session_user: String,
    /// SET ROLE
    pub role: Option<String>,
}

impl Identity {
    /// Who has just logged in.
    pub fn new(user: &str) -> Self {
        Self { authenticated: user.to_owned(), session_user: user.to_owned(), role: None }
    }

    /// current_user
    pub fn current(&self) -> &str {
        self.role.as_deref().unwrap_or(&self.session_user)
    }
}

impl Session {
    /// current_user: the role that owns what is made and whose privileges hold.
    pub fn role(&self) -> String {
        self.inner.lock().identity.current().to_owned()
    }

    /// session_user
    pub fn session_user(&self) -> String {
        self.inner.lock().identity.session_user.clone()
    }

    /// SET ROLE; None is NONE.
    pub fn set_role(&self, role: Option<&str>, local: bool) -> Result<()> {
        let data = self.snapshot();
        let mut inner = self.inner.lock();
        if let Some(role) = role {
            if !data.roles.contains_key(role) {
                return Err(no_role(role));
            }
            let user = &inner.identity.session_user;
            if !data.is_superuser(user) && !data.member_of(user, false).contains(role) {
                return Err(Error::new(Kind::InsufficientPrivilege, format!("permission denied to set role \"{role}\"")));
            }
        }
        inner.become_role(local, |identity| identity.role = role.map(str::to_owned));
        self.refresh(&mut inner);
        Ok(())
    }

    /// SET SESSION AUTHORIZATION; None is DEFAULT. SET ROLE ends with it.
    pub fn set_authorization(&self, role: Option<&str>, local: bool) -> Result<()> {
        let data = self.snapshot();
        let mut inner = self.inner.lock();
        let user = inner.identity.authenticated.clone();
        let wanted = role.unwrap_or(&user).to_owned();
        if wanted != user {
            if !data.roles.contains_key(&wanted) {
                return Err(no_role(&wanted));
            }
            if !data.is_superuser(&user) {
                return Err(Error::new(Kind::InsufficientPrivilege, "permission denied to set session authorization"));
            }
        }
        inner.become_role(local, |identity| (identity.session_user, identity.role) = (wanted.clone(), None));
        self.refresh(&mut inner);
        Ok(())
    }

    /// The roles of the catalog have changed: this session's may be among them.
    pub fn refresh_role(&self) {
        let mut inner = self.inner.lock();
        self.refresh(&mut inner);
    }

    /// Sets what depends on the role that holds now.
    fn refresh(&self, inner: &mut Inner) {
        self.refresh_superuser(&inner.identity);
        let superuser = if self.superuser() { "on" } else { "off" };
        let before = inner.settings.clone();
        let user = inner.identity.session_user.clone();
        inner.settings.set_internal("is_superuser", superuser);
        inner.settings.set_internal("session_authorization", user);
        inner.report_changes(&before);
    }

    /// Whether the current role is a superuser may have changed.
    pub(super) fn refresh_superuser(&self, identity: &Identity) {
        let superuser = self.database.catalog.snapshot().is_superuser(identity.current());
        self.superuser.store(superuser, Ordering::Relaxed);
    }
}

impl Inner {
    fn become_role(&mut self, local: bool, change: impl Fn(&mut Identity)) {
        change(&mut self.identity);
        if !local && let Some(transaction) = &mut self.block {
            change(&mut transaction.lasting.identity);
        }
    }
}
