"""Does pretraining help? Fine-tuning on few labels, scored and compared in pairs."""
