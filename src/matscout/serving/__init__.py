"""The ensemble in MLflow: registered and served."""
