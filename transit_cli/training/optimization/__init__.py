"""What changes weights: optimizer, schedule, weight averaging, augmentation."""
