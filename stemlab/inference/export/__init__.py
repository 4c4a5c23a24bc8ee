"""Write a trained network as a file that runs without stemlab, with the encoder of raw rows and a model card."""
