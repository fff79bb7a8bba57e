"""What a run is: configuration, resolution, events and paths. No torch, no Qt."""
