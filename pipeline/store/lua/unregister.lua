-- A replica takes its permits back: it stops, or it is known to be dead. ARGV: model, replica.
forget_replica(ARGV[2], ARGV[3])
count_permits(ARGV[2])
return 1
