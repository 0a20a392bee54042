"""What changes something in Tallyfy, done once however often it is attempted."""
