"""What happens around a training: stopping, keeping the best epoch, showing and measuring it."""
