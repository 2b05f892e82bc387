"""The one reading of a run table, and the statistics of curves that claims and figures share.

`tables` and `runs` turn a run table into networks and runs with their settings. The other modules
take arrays and give arrays or small dataclasses: `curves` (averages, trends), `crossings` (where a
sharpness curve meets its threshold, where it settles), `phases`, `residual` (the residual along v₁,
‖A‖² beside the sharpness), `rates` (decay and growth); `edge` and `noise` say what is asked of one
run. A diverged run's curve is cut before its first non-finite entry. At the edge of stability
the sharpness alternates with period two; each function says whether it looks at raw entries or at
two-step averages.
"""
