"""From a media file to face crops, landmarks and sound, exactly as the phone will make them. No torch."""
