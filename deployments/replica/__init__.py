"""What every model replica does with the attempts it is given, whatever its engine: permits, the log, heartbeats."""
