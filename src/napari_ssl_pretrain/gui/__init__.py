"""What napari shows: dock widgets, live preview, results as layers. No torch."""
