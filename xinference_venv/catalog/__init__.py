"""The packages that are known for engines and models, before a launch adds its own.

`nouns` says what the catalogue is and reads specifications from text; `load` reads it from the
package's own data and from disk.
"""
