"""Every key and channel name of the store, for Python and, generated from the same table, for the Lua scripts.

A variable part that a client chooses stands only at the end of a name, behind a prefix of its own, so that no choice of ids
can make two names meet.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: Name -> template. ``{}`` are filled in order.
LAYOUT = {
    # truth about one prompt
    "prompt": "p:{}",  # ref -> hash
    "log": "log:{}",  # ref -> stream of deltas
    # who uses a name, for admins, who look by it alone: hashes with the first user, sorted sets with the others (rare)
    "owner": "owner",  # prompt id -> user
    "owners": "owners:{}",  # of this prompt id
    "thread_owner": "t-owner",  # thread id -> user
    "thread_owners": "t-owners:{}",  # of this thread id
    # indexes: sorted sets ref -> created (µs, no two the same)
    "all": "i:all",
    "by_status": "i:status:{}",
    "by_user": "i:user:{}",
    "by_user_status": "i:user-status:{}/{}",  # status/user
    "by_thread_status": "i:thread-status:{}/{}",  # status/user/thread
    "ended": "i:ended:{}",  # status, of those that ended; ref -> time of the end (µs)
    # threads: {} is user/thread
    "thread": "t:{}",  # hash: title, created, updated, place (last one given out), conversation, topics
    "thread_prompts": "t-prompts:{}",  # ref -> place
    "thread_open": "t-open:{}",  # ref -> place, unfinished ones only
    "thread_messages": "t-messages:{}",  # message id -> order
    "message": "m:{}",  # user/message id -> hash
    "threads": "t-user:{}",  # user -> sorted set: thread id -> created
    # events of one user, kept while somebody listens
    "listening": "listening:{}",  # user: there is a subscription, or was one lately; expires
    "events": "events:{}",  # user -> stream of events; capped, expires with the key above
    # one queue per model
    "models": "models",  # sorted set: model with prompts or replicas -> until when a router is known to have it (µs)
    "stats": "q-stats:{}",  # hash: waiting, blocked (wait for their thread), extra (cost), turn, permits, stale_rejected
    "priorities": "q-priorities:{}",  # priority -> priority, those with waiting prompts
    "turns": "q-turns:{}:{}",  # priority:model; user -> turn
    "waiting": "q-waiting:{}:{}:{}",  # priority:user:model; ref -> created
    "due": "q-due:{}",  # ref -> time of the next attempt
    "leases": "q-leases:{}",  # ref -> deadline
    "replicas": "q-replicas:{}",  # replica -> time at which it counts as dead
    "permits": "q-permits:{}",  # hash: replica -> permits
    "used": "q-used:{}",  # hash: replica -> permits in use at its last heartbeat
    "nodes": "q-nodes:{}",  # hash: replica -> node it runs on
    "serving": "q-serving:{}",  # hash: replica -> running or leaving, as Serve says
    "stopped": "q-stopped:{}",  # replica that Serve stopped while it was not registered; expires
    "movable": "q-movable:{}",  # ref -> created, of those that wait and have a fallback model
    "wanted": "q-wanted:{}",  # somebody has asked for a replica; expires
    # what users and admins have set
    "templates": "templates:{}",  # hash of a user: name -> "created updated template"
    "default_model": "default-model",  # id of the model that an admin made the default
    # files
    "file": "f:{}",  # file id -> hash
    "file_usage": "f-usage:{}",  # user -> hash: bytes, files, writing (uploads under way)
    "user_files": "f-user:{}:{}",  # uploads or downloads:user; file id -> time of creation
    "user_urls": "f-urls:{}",  # user -> hash: digest of a URL -> id of the file downloaded from it
    "unsettled_files": "f-unsettled",  # file id -> time at which whoever sweeps removes its blob
    # who there is, and in which role
    "account": "user:{}",  # user -> hash; enrolled: JSON list of role and app; tokens: their generation
    "slug": "user-slug:{}",  # slug -> user
    "accounts": "users",  # user -> time of the registration (µs)
    "enroll": "enroll:{}",  # enroll id -> hash
    "user_enrolls": "enrolls-user:{}",  # user -> set of enroll ids
    "role_enrolls": "enrolls-role:{}",  # role -> sorted set of enroll ids, all scored 0
    # who may do what, how often
    "policy_table": "policies",  # hash: id -> policy
    "permit_table": "permits",  # hash: id -> permit
    "rate": "rate:{}",  # counter: hash: slot of the window -> requests
    "ticket": "ticket:{}",  # digest: hash: holder, and once it is open stream, openings
    "ticket_count": "tickets:{}",  # user: tickets issued of late
    # chats of the Open-Assistant door: {} is a user, user/chat, or the ref of a message; an answer's ref is its prompt's, too
    "oa_chats": "oa-chats:{}",  # user -> chat id, all of score 0: ids are ordered by time
    "oa_visible": "oa-visible:{}",  # the same, without the hidden ones
    "oa_chat": "oa-chat:{}",  # hash: created (while it exists), modified, title, hidden, data_use, tail, order; deleting
    "oa_messages": "oa-messages:{}",  # message id -> order
    "oa_message": "oa-m:{}",  # hash
    "oa_refresh": "oa-refresh:{}",  # digest of a refresh token -> user and when the account was made; expires
    # the SEMOSS door, all of it for a while only
    "pixel_session": "px-session:{}",  # digest: hash: holder, csrf, i:<insight> -> time
    "pixel_job": "px-job:{}",  # job id: hash: session, ref, what its result needs, what was delivered
    "recent_call": "recent-call:{}",  # user/digest of a request -> id of its first prompt; expires
    "api_key": "api-key:{}",  # digest of the key: hash id, user, name, prefix, created, updated, used (µs)
    "api_keys": "api-keys:{}",  # user -> hash: id of the key -> its digest
    # counters and identity
    "seq": "seq",  # when the latest prompt was accepted (µs)
    "fence": "fence",  # attempts granted so far, of all prompts
    "identity": "store",
    "full": "full",  # the disk of the store is nearly full; expires unless whoever watches it says so again
    # pub/sub channels
    "bell": "bell:{}",  # user/thread: a log of this thread grew
    "events_bell": "events-bell:{}",  # user: there is another event
    "wake": "wake:{}",  # model: a prompt waits and a permit is free
    "doorbell": "doorbell:{}",  # replica: look at the lease of this ref; or `leave`, or `stay`
}


class Keys:
    """Names below one namespace: ``keys.prompt(ref)``."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __getattr__(self, name: str) -> Any:
        template = LAYOUT.get(name)
        if template is None:
            raise AttributeError(name)
        full = f"{self.namespace}:{template}"
        return full.format


def lua_prelude(names: Collection[str] = LAYOUT) -> str:
    """A Lua table ``K`` with a function per name; ``NS`` is the namespace, given by each script as ``ARGV[1]``."""
    lines = ["local NS = ARGV[1] .. ':'", "local K = {}"]
    for name, template in LAYOUT.items():
        if name not in names:
            continue
        parts = template.split("{}")
        arguments = [f"a{i}" for i in range(len(parts) - 1)]
        expression = f"'{parts[0]}'"
        for argument, rest in zip(arguments, parts[1:], strict=True):
            expression += f" .. {argument}" + (f" .. '{rest}'" if rest else "")
        lines.append(f"function K.{name}({', '.join(arguments)}) return NS .. {expression} end")
    return "\n".join(lines) + "\n"
