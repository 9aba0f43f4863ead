//! Shapes and their harmless twins.
