"""An appliance-sdk plugin that ends connections after too many failed logins."""

from __future__ import annotations

from appliance_login_guard.guard import LoginGuard, LoginGuardConfig, LoginWatch, Service

__all__ = ["LoginGuard", "LoginGuardConfig", "LoginWatch", "Service"]
