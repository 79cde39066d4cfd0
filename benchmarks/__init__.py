"""Side-by-side measurements; nothing here passes or fails.

    python -m benchmarks               serving: vLLM's server, ray.serve.llm and this service, same model and flags
    python -m benchmarks.accept        durable accept beside a bare Serve ingress on the same store and proxy
    python -m benchmarks.queue_core    the queue without HTTP; accept, grant and list with a million queued
    python -m benchmarks.profile_ttft  where the time to the first token goes
    python -m benchmarks.painter       what the shipped image model gets right, and its seconds a picture

Results land in ``benchmarks/results``. Everything runs on one machine and the client shares its cores: compare the rows
of one run, not figures of two machines.
"""
