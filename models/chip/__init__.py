"""Models as graphs of plain operations for neuromorphic hardware, and a machine that executes them spike by spike."""
