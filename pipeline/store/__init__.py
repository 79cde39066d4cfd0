"""Everything that touches the store. Nothing outside this package sends it a command.

Who uses what: ingress → ``prompts``, ``logs``, ``messages``; ledger → ``queue``; replicas → ``attempts``.
"""
